"""What every back end must satisfy; the test of a new one calls this with its name and precisions."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest

from deploy.runtime.engines import Settings, open_engine
from deploy.runtime.engines.openvino import BF16
from tests.backends.tiny import CLASSES, SHAPE, tiny_images, tiny_onnx
from tests.instructions import has
from toolchain.backends import Backend, Calibration, backend
from toolchain.errors import BackendError, DeviceError
from toolchain.parity import compare
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.tensors import TensorSpec

WIDTHS = {"tensorrt": 16}  # it has no int8 for fewer channels
VARYING = (".plan",)  # two builds of TensorRT differ in bytes, not in size


def check_backend(
    name: str, precision: Precision, folder: Path, computes: bool = True, made: tuple[Candidate, Path] | None = None
) -> None:
    """Build from an ONNX file, open with the engine of the same name (or its stand-in where there is no device), and
    agree with ONNX Runtime (if it `computes`). A precision that this CPU lacks is built too, and its engine refused.
    made: a build of the same graph and images that is there already, and its folder."""
    module = backend(name)
    assert name == module.NAME
    assert precision in module.PRECISIONS
    assert module.missing() is None
    onnx = tiny_onnx(folder / "model-in.onnx", width=WIDTHS.get(name, 8))
    built = made[1] if made else folder / "built"
    candidate = made[0] if made else module.build(onnx, built, precision, Calibration(tiny_images(40, seed=2)))
    assert (candidate.precision, candidate.backend) == (precision, name)
    assert (candidate.accuracy, candidate.latency_ms, candidate.verdict) == (None, None, "")
    runnable = module.stand_in(candidate) or candidate
    assert {path.name for path in built.iterdir()} == {*candidate.files, *runnable.files}
    assert candidate.size_bytes == sum((built / file).stat().st_size for file in candidate.files)
    again = module.build(onnx, folder / "again", precision, Calibration(tiny_images(40, seed=2)))
    assert again == candidate
    for file in (*candidate.files, *runnable.files):
        content = (built / file).read_bytes()
        same = file.endswith(VARYING) or content == (folder / "again" / file).read_bytes()
        assert same, f"{file} differs between two builds"
        assert str(built.parent).encode() not in content, f"{file} contains a path of the build machine"
    if (runnable.backend, precision) == ("openvino", "bf16") and not has(*BF16):
        with pytest.raises(DeviceError, match=r"model\.xml is to run in bf16; this CPU \(.+\) lacks avx512_bf16;"):
            open_engine(built, runnable, Settings(threads=1))
        return
    reference = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    with open_engine(built, runnable, Settings(threads=1)) as engine:
        assert engine.inputs == (TensorSpec("image", "uint8", (None, *SHAPE)),)
        assert engine.outputs == (TensorSpec("logits", "float32", (None, CLASSES)),)
        for count in (1, 5, 40):
            logits = engine.infer({"image": tiny_images(count)})["logits"]
            (expected,) = reference.run(None, {"image": tiny_images(count)})
            assert logits.shape == (count, CLASSES)
            assert logits.dtype == np.float32
            if computes and count == 40:
                record = compare(expected, logits, ("onnxruntime", name), precision)
                assert record.passed, record


def check_refusals(name: str, folder: Path, module: Backend | None = None) -> None:
    """A precision that it does not build, and a file that is not ONNX, are refused in one line."""
    module = module or backend(name)
    absent = next(precision for precision in get_args(Precision) if precision not in module.PRECISIONS)
    assert all(reason for reason in module.REASONS.values())
    assert not set(module.REASONS) & set(module.PRECISIONS)
    with pytest.raises(BackendError, match=f"target '{name}' builds .*, not {absent}.*; change `precisions` under"):
        module.build(tiny_onnx(folder / "model-in.onnx"), folder / "built", absent, None)
    broken = folder / "broken.onnx"
    broken.write_bytes(b"this is no graph")
    with pytest.raises(BackendError, match=r"broken\.onnx: .*") as caught:
        module.build(broken, folder / "built", "fp32", None)
    assert "\n" not in str(caught.value)
    assert not (folder / "built").exists() or not list((folder / "built").iterdir())
