"""TensorRT builds of the tiny graph, made once for all tests that only read them: ModelOpt takes seconds to start."""

from pathlib import Path

import msgspec
import pytest

from tests.backends.tiny import tiny_images, tiny_onnx
from tests.once import made_once, shared_folder
from toolchain.backends import tensorrt
from toolchain.backends.calibration import Calibration
from toolchain.records.manifest import Candidate, Precision


def tensorrt_build(paths: pytest.TempPathFactory, precision: Precision) -> tuple[Candidate, Path]:
    """The candidate, and a folder with in.onnx and what was made of it below built/; to be read only."""
    name = f"tensorrt-{precision}"

    def make(folder: Path) -> str:
        graph = tiny_onnx(folder / "in.onnx", width=16)
        candidate = tensorrt.build(graph, folder / "built", precision, Calibration(tiny_images(40, seed=2)))
        return msgspec.json.encode(candidate).decode()

    return msgspec.json.decode(made_once(paths, name, make), type=Candidate), shared_folder(paths) / name
