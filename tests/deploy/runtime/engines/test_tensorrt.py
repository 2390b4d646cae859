"""The engine's logic on a plan and a CUDA that compute on the host; and what a machine without a GPU is told."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime.device.cuda import Cuda
from deploy.runtime.engines import GpuEngine, Settings
from deploy.runtime.engines.compile_cache import CompileCache
from deploy.runtime.engines.tensorrt import TensorRtEngine, open_engine, split_padded
from deploy.runtime.engines.tensorrt_plan import Flavour, build_plan, load_library
from tests.backends.rounded import rounded_convolution
from tests.deploy.runtime.device.fakecuda import FakeCuda
from tests.deploy.runtime.engines.faketensorrt import SIDE, FakeCache, FakePlan, fake_library
from toolchain.errors import DeviceError, LostDevice
from toolchain.records.manifest import Candidate
from toolchain.records.tensors import Array, TensorSpec

RTX = Settings(1)


def pictures(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 60, (count, SIDE), np.uint8)


def opened(settings: Settings = RTX, flavour: Flavour = "rtx") -> tuple[TensorRtEngine, FakePlan, FakeCuda]:
    runtime = FakeCuda()
    plan = FakePlan(runtime)
    return TensorRtEngine(Cuda(runtime), fake_library(flavour), plan, settings), plan, runtime


@pytest.mark.parametrize("flavour", ["rtx", "classic"])
def test_any_batch_is_answered_in_the_forms_of_the_plan(flavour: Flavour) -> None:
    engine, plan, runtime = opened(flavour=flavour)
    with engine:
        assert engine.inputs == (TensorSpec("image", "uint8", (None, SIDE)),)
        assert engine.outputs == (TensorSpec("logits", "float32", (None, 1)),)
        for count in (1, 3, 8, 13, 32, 45, 100, 1, 8, 32):
            given = pictures(count)
            found = engine.infer({"image": given})["logits"]
            np.testing.assert_array_equal(found[:, 0], given.sum(1))
        assert sorted(context.batch for context in plan.contexts) == [1, 8, 32]
    assert not any(runtime.held.values())
    # TensorRT for RTX replays graphs by itself; the classic flavour's are ours
    assert bool(runtime.launches) is (flavour == "classic")
    assert plan.config.cuda_graph_strategy == ("whole" if flavour == "rtx" else None)


@pytest.mark.parametrize(
    ("batch", "forms", "expected"),
    [
        (45, (1, 8, 32), [(0, 32, 32), (32, 8, 8), (40, 5, 8)]),
        (20, (1, 8, 32), [(0, 20, 32)]),
        (3, (1, 8, 32), [(0, 1, 1), (1, 1, 1), (2, 1, 1)]),
        (3, (8,), [(0, 3, 8)]),
        (64, (1, 8, 32), [(0, 32, 32), (32, 32, 32)]),
    ],
)
def test_a_form_is_filled_up_where_more_than_half_of_it_is_used(
    batch: int, forms: tuple[int, ...], expected: list[tuple[int, int, int]]
) -> None:
    assert list(split_padded(batch, forms)) == expected


def test_several_callers_have_lanes_of_their_own() -> None:
    engine, plan, _ = opened(Settings(1, "throughput"))
    with engine, ThreadPoolExecutor(8) as pool:
        assert engine.requests == 3
        given = [pictures(1 + number % 9) for number in range(60)]
        found = list(pool.map(lambda one: engine.infer({"image": one})["logits"][:, 0], given))
        for one, answer in zip(given, found, strict=True):
            np.testing.assert_array_equal(answer, one.sum(1))
    assert len(plan.contexts) <= 6  # two forms, three lanes


def test_a_lost_gpu_stays_lost_and_a_closed_engine_says_so() -> None:
    engine, _, runtime = opened()
    with engine:
        engine.infer({"image": pictures(1)})
        runtime.fail["cudaStreamSynchronize"] = 719
        with pytest.raises(LostDevice, match="CUDA error 719"):
            engine.infer({"image": pictures(1)})
        runtime.fail.clear()
        with pytest.raises(LostDevice, match="CUDA error 719"):
            engine.infer({"image": pictures(1)})
    with pytest.raises(DeviceError):
        engine.infer({"image": pictures(1)})


def test_an_inference_that_is_refused_is_told_and_the_next_one_tried() -> None:
    engine, plan, _ = opened()
    with engine:
        engine.infer({"image": pictures(1)})
        plan.contexts[0].works = False
        with pytest.raises(DeviceError, match="TensorRT refused to start an inference"):
            engine.infer({"image": pictures(1)})
        plan.contexts[0].works = True
        assert engine.infer({"image": pictures(1)})["logits"][0, 0] == pictures(1).sum()


def test_what_the_device_compiled_is_kept_at_once_for_the_next_start(tmp_path: Path) -> None:
    for expected in (b"+", b"++"):
        engine, _, _ = opened(Settings(1, cache=tmp_path))
        with engine:
            engine.infer({"image": pictures(1)})
            assert CompileCache(tmp_path).read("tensorrt-rtx-.cache") == expected
    other = TensorRtEngine(Cuda(FakeCuda()), fake_library("rtx"), FakePlan(FakeCuda()), Settings(1), "another plan")
    with other:
        assert plan_cache(other) == b""


def plan_cache(engine: TensorRtEngine) -> bytes:
    cache = engine._cache
    assert isinstance(cache, FakeCache)
    return cache.taken


def test_single_pictures_are_timed_on_the_gpu_and_it_is_named() -> None:
    engine, _, _ = opened()
    with engine:
        assert isinstance(engine, GpuEngine)
        assert engine.bus == "00000000:65:00.0"
        timing = engine.measure({"image": pictures(1)})
        assert 0 < timing.compute_ms < timing.total_ms


def test_a_machine_without_a_driver_is_told_what_to_install(tmp_path: Path) -> None:
    if not int(Cuda().runtime.cudaGetDeviceCount()[0]):
        pytest.skip("there is a GPU here; make test-gpu asks it")
    plan = build_plan(load_library("rtx"), rounded_convolution().SerializeToString(), (1, 8, 32), (86,))
    (tmp_path / "model.plan").write_bytes(plan.content)
    with pytest.raises(DeviceError, match=r"no CUDA driver \(35\): install NVIDIA's driver .* --gpus=all"):
        open_engine(tmp_path, Candidate("int8", "tensorrt", ("model.plan",), 1), RTX)
