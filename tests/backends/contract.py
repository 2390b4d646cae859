"""What every back end promises; a new back end's test calls this with its name and precisions."""

from pathlib import Path
from typing import get_args

import numpy as np
import onnxruntime
import pytest

from deploy.runtime.engines import Settings, open_engine
from deploy.runtime.engines.openvino import BF16
from tests.backends.tiny import CLASSES, SHAPE, pictures, tiny_onnx
from tests.instructions import has
from toolchain.backends import Backend, Calibration, backend
from toolchain.errors import BackendError, DeviceError
from toolchain.parity import compare
from toolchain.records.manifest import Precision
from toolchain.records.tensors import TensorSpec

WIDTHS = {"tensorrt": 16}  # it has no int8 for fewer channels
REMADE = (".plan",)  # TensorRT's builder gives other bytes of the same size each time


def check_backend(name: str, precision: Precision, folder: Path, answers: bool = True) -> None:
    """Build from an ONNX, open with the engine of the same name (or what stands in for it where it has no device),
    answer like ONNX Runtime (when it `answers`). What this CPU cannot compute is built all the same, and its engine is
    refused."""
    module = backend(name)
    assert name == module.NAME
    assert precision in module.PRECISIONS
    assert module.missing() is None
    onnx = tiny_onnx(folder / "model-in.onnx", width=WIDTHS.get(name, 8))
    made = folder / "made"
    candidate = module.build(onnx, made, precision, Calibration(pictures(40, seed=2)))
    assert (candidate.precision, candidate.backend) == (precision, name)
    assert (candidate.accuracy, candidate.latency_ms, candidate.verdict) == (None, None, "")
    opened = module.stand_in(candidate) or candidate
    assert {path.name for path in made.iterdir()} == {*candidate.files, *opened.files}
    assert candidate.size_bytes == sum((made / file).stat().st_size for file in candidate.files)
    again = module.build(onnx, folder / "again", precision, Calibration(pictures(40, seed=2)))
    assert again == candidate
    for file in (*candidate.files, *opened.files):
        content = (made / file).read_bytes()
        same = file.endswith(REMADE) or content == (folder / "again" / file).read_bytes()
        assert same, f"{file} differs between two builds"
        assert str(folder).encode() not in content, f"{file} holds a path of the build machine"
    if (opened.backend, precision) == ("openvino", "bf16") and not has(*BF16):
        with pytest.raises(DeviceError, match=r"model\.xml is to run in bf16; this CPU \(.+\) lacks avx512_bf16;"):
            open_engine(made, opened, Settings(threads=1))
        return
    reference = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    with open_engine(made, opened, Settings(threads=1)) as engine:
        assert engine.inputs == (TensorSpec("image", "uint8", (None, *SHAPE)),)
        assert engine.outputs == (TensorSpec("logits", "float32", (None, CLASSES)),)
        for count in (1, 5, 40):
            found = engine.infer({"image": pictures(count)})["logits"]
            (expected,) = reference.run(None, {"image": pictures(count)})
            assert found.shape == (count, CLASSES)
            assert found.dtype == np.float32
            if answers and count == 40:
                record = compare(expected, found, ("onnxruntime", name), precision)
                assert record.passed, record


def check_refusals(name: str, folder: Path, module: Backend | None = None) -> None:
    """A precision it does not build, and a file that is no ONNX, are refused in one line."""
    module = module or backend(name)
    absent = next(one for one in get_args(Precision) if one not in module.PRECISIONS)
    assert all(reason for reason in module.REASONS.values())
    assert not set(module.REASONS) & set(module.PRECISIONS)
    with pytest.raises(BackendError, match=f"target '{name}' builds .*; not {absent}.*; change `precisions` under"):
        module.build(tiny_onnx(folder / "model-in.onnx"), folder / "made", absent, None)
    broken = folder / "broken.onnx"
    broken.write_bytes(b"this is no graph")
    with pytest.raises(BackendError, match=r"broken\.onnx: .*") as caught:
        module.build(broken, folder / "made", "fp32", None)
    assert "\n" not in str(caught.value)
    assert not (folder / "made").exists() or not list((folder / "made").iterdir())
