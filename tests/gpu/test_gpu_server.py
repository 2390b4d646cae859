"""The server's service on a GPU under load, and TensorRT for RTX's answer on this GPU."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import pytest

from deploy.runtime.device.cuda import Cuda
from deploy.runtime.engines import GpuEngine, Settings, open_engine
from deploy.runtime.engines.tensorrt_plan import load_library
from deploy.runtime.scheduling.service import SchedulingOptions, Service
from tests.backends.tiny import tiny_images, tiny_onnx
from tests.gpu.torchengine import SIDE, TorchEngine
from toolchain.backends import Calibration, tensorrt
from toolchain.errors import DeviceError
from toolchain.parity import compare
from toolchain.records.manifest import Candidate


def test_many_callers_are_answered_rightly_and_the_overhead_is_told(
    cuda: Cuda, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = TorchEngine(cuda)
    assert isinstance(engine, GpuEngine)
    given = [np.random.default_rng(seed).normal(0, 1, (1, SIDE)).astype(np.float32) for seed in range(16)]
    with engine:
        service = Service(engine, SchedulingOptions(max_queue=256))
        bare, served = [], []
        for number in range(600):  # in turn, so that clocks favour neither
            feeds = {"image": given[number % 16]}
            began = time.perf_counter()
            engine.infer(feeds)
            middle = time.perf_counter()
            service.infer(feeds)
            bare.append(middle - began)
            served.append(time.perf_counter() - middle)
        with ThreadPoolExecutor(32) as pool:
            answers = list(pool.map(lambda number: service.infer({"image": given[number % 16]}), range(2000)))
        service.close()
        for number, answer in enumerate(answers):
            expected = engine.net.expected(given[number % 16])
            np.testing.assert_allclose(answer.outputs["logits"], expected, rtol=1e-3, atol=1e-3)
    overhead_ms = 1e3 * (median(served[100:]) - median(bare[100:]))
    with capsys.disabled():
        print(
            f"\nservice over bare engine at batch 1, p50: {overhead_ms:.3f} ms ({1e3 * median(bare[100:]):.3f} ms bare)"
        )


def test_tensorrt_for_rtx_answers_here_or_says_why_not(cuda: Cuda, tmp_path: Path) -> None:
    """On Hopper, which it has no kernels for: its refusal, in one line."""
    here = cuda.capability
    onnx = tiny_onnx(tmp_path / "in.onnx", width=16)
    known = load_library("rtx").capabilities
    options = {"compute_capabilities": (here if here in known else 86,)}
    made = tmp_path / "made"
    candidate: Candidate = tensorrt.build(onnx, made, "fp16", Calibration(tiny_images(40)), options=options)
    if here not in known:
        with pytest.raises(DeviceError, match="does not fit this device") as caught:
            open_engine(made, candidate, Settings(1))
        assert "\n" not in str(caught.value)
        pytest.skip(f"T5 not run: TensorRT for RTX has no kernels for {here / 10}; it said: {caught.value}")
    with open_engine(made, candidate, Settings(1)) as engine:
        found = engine.infer({"image": tiny_images(40)})["logits"]
    shown = Candidate("fp16", "onnxruntime", ("standin-fp16.onnx",), 0)
    with open_engine(made, shown, Settings(1)) as engine:
        expected = engine.infer({"image": tiny_images(40)})["logits"]
    record = compare(expected, found, ("onnxruntime", "tensorrt"), "fp16")
    assert record.passed, record
