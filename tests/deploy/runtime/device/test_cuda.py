"""Buffers, order, capture and errors on a runtime that computes on the host; a real GPU is asked by `make test-gpu`."""

import ctypes
from collections.abc import Mapping

import numpy as np
import pytest

from deploy.runtime.device.cuda import Cuda, Lane
from tests.deploy.runtime.device.fakecuda import FakeCuda
from toolchain.errors import DeviceError, LostDevice
from toolchain.records.tensors import TensorSpec

PICTURE, LOGITS = TensorSpec("image", "uint8", (2, 3)), TensorSpec("logits", "float32", (2, 1))


class Sums:
    """A launch that adds up each row of `image`, on whatever lies at the addresses when the stream gets there."""

    def __init__(self, runtime: FakeCuda) -> None:
        self.runtime, self.calls = runtime, 0

    def __call__(self, addresses: Mapping[str, int], stream: int) -> None:
        self.calls += 1

        def work() -> None:
            rows = np.ctypeslib.as_array((ctypes.c_uint8 * 6).from_address(addresses["image"])).reshape(2, 3)
            result = np.ctypeslib.as_array((ctypes.c_float * 2).from_address(addresses["logits"]))
            result[:] = rows.sum(1)

        self.runtime.enqueue(stream, work)


def lane(runtime: FakeCuda, captured: bool = True) -> tuple[Lane, Sums]:
    launch = Sums(runtime)
    return Lane(Cuda(runtime), [PICTURE], [LOGITS], launch, captured), launch


def rows(*values: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.array(values, np.uint8).reshape(2, 3)


def test_answers_are_those_of_the_pictures_given_each_time_and_stay_when_the_next_come() -> None:
    runtime = FakeCuda()
    made, launch = lane(runtime)
    with made:
        (first,) = made.infer([rows(1, 2, 3, 4, 5, 6)])
        (second,) = made.infer([rows(10, 0, 0, 0, 0, 20)])
        (third,) = made.infer([rows(7, 7, 7, 8, 8, 8)])
    assert (first.tolist(), second.tolist(), third.tolist()) == ([[6], [15]], [[10], [20]], [[21], [24]])
    assert first.dtype == np.float32
    assert launch.calls == 2  # once to warm it up, once to be recorded
    assert runtime.launches == ["graph", "graph"]
    assert not any(runtime.held.values())


def test_without_capture_each_answer_is_a_launch() -> None:
    runtime = FakeCuda()
    made, launch = lane(runtime, captured=False)
    with made:
        assert [made.infer([rows(*[value] * 6)])[0][0, 0] for value in (1, 2, 3)] == [3, 6, 9]
    assert (launch.calls, runtime.launches) == (3, [])


def test_the_gpus_own_time_is_told_with_and_without_copies() -> None:
    runtime = FakeCuda()
    made, _ = lane(runtime)
    with made:
        timing = made.measure([rows(*range(6))])
        assert (timing.compute_ms, timing.total_ms) == (1.0, 3.0)
        assert not runtime.held["event"]


def test_pictures_of_another_type_or_shape_are_refused_before_anything_is_copied() -> None:
    made, launch = lane(FakeCuda())
    with made:
        with pytest.raises(TypeError):
            made.infer([rows(*range(6)).astype(np.int64)])
        with pytest.raises(ValueError, match="broadcast"):
            made.infer([np.zeros((3, 3), np.uint8)])
    assert launch.calls == 0


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (35, r"no CUDA driver \(35\): install NVIDIA's driver .* --gpus=all"),
        (100, r"no CUDA device \(100\): install"),
        (2, "CUDA error 2 in cudaGetDeviceCount: error 2, in words"),
    ],
)
def test_what_is_missing_is_told_in_a_line_with_what_to_install(code: int, told: str) -> None:
    runtime = FakeCuda()
    runtime.fail["cudaGetDeviceCount"] = code
    with pytest.raises(DeviceError, match=told) as caught:
        Cuda(runtime).check_device()
    assert not isinstance(caught.value, LostDevice)


def test_an_error_that_ends_the_context_says_so() -> None:
    runtime = FakeCuda()
    made, _ = lane(runtime)
    with made:
        runtime.fail["cudaStreamSynchronize"] = 700
        with pytest.raises(LostDevice, match=r"CUDA error 700 in cudaStreamSynchronize .* start it again"):
            made.infer([rows(*range(6))])


@pytest.mark.parametrize("call", ["cudaHostAlloc", "cudaMalloc", "cudaStreamCreateWithFlags"])
def test_a_lane_that_cannot_be_made_holds_nothing(call: str) -> None:
    runtime = FakeCuda()
    runtime.fail[call] = 2
    with pytest.raises(DeviceError, match=f"CUDA error 2 in {call}"):
        lane(runtime)
    assert not any(runtime.held.values())


def test_a_graph_that_cannot_be_made_leaves_no_capture_open() -> None:
    runtime = FakeCuda()
    made, _ = lane(runtime)
    with made:
        made.infer([rows(*range(6))])
        runtime.fail["cudaGraphInstantiate"] = 2
        with pytest.raises(DeviceError, match="cudaGraphInstantiate"):
            made.infer([rows(*range(6))])
        assert not runtime.held["graph"]
        runtime.fail.clear()
        assert made.infer([rows(1, 1, 1, 2, 2, 2)])[0].tolist() == [[3], [6]]


def test_the_compute_capability_is_a_number() -> None:
    assert Cuda(FakeCuda()).capability == 86


def test_here_without_a_driver_the_real_bindings_say_so() -> None:
    cuda = Cuda()
    code = int(cuda.runtime.cudaGetDeviceCount()[0])
    if code:
        with pytest.raises(DeviceError, match=rf"\({code}\): install NVIDIA's driver"):
            cuda.check_device()
    else:
        cuda.check_device()


def test_every_call_of_ours_exists_in_the_real_bindings() -> None:
    """What FakeCuda has is what the code calls; the real module must have each of them."""
    real = Cuda().runtime
    ours = [f"cuda{name[1:]}" for name in vars(FakeCuda) if name.startswith("_") and name[1:2].isupper()]
    named = [name for name in vars(FakeCuda) if name.startswith("cuda")]
    assert len(ours) > 15
    assert [name for name in (*ours, *named) if not hasattr(real, name)] == []
    for enumeration in ("cudaMemcpyKind", "cudaStreamCaptureMode", "cudaDeviceAttr"):
        for member in vars(getattr(FakeCuda, enumeration)):
            assert hasattr(getattr(real, enumeration), member)
