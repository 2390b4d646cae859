"""Streams, captured graphs, pinned copies, events and NVML on a real GPU."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from deploy.runtime.device.cuda import Cuda
from deploy.runtime.device.gpu import Gpu, GpuMonitor, find_gpu
from tests.gpu.torchengine import SIDE, TorchNet, lane
from toolchain.records.tensors import Array


def images(batch: int, seed: int) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (batch, SIDE)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 8])
def test_a_captured_launch_answers_as_the_plain_one_and_as_numpy(cuda: Cuda, batch: int) -> None:
    net = TorchNet(batch)
    with lane(cuda, net) as captured, lane(cuda, net, captured=False) as plain:
        for seed in range(6):
            given = images(batch, seed)
            (found,) = captured.infer([given])
            (direct,) = plain.infer([given])
            np.testing.assert_array_equal(found, direct)
            np.testing.assert_allclose(found, net.expected(given), rtol=1e-3, atol=1e-3)


def test_lanes_on_streams_of_their_own_never_mix_answers(cuda: Cuda) -> None:
    nets = [TorchNet(1) for _ in range(3)]
    lanes = [lane(cuda, net) for net in nets]

    def asked(number: int) -> None:
        for seed in range(50):
            given = images(1, 1000 * number + seed)
            (found,) = lanes[number].infer([given])
            np.testing.assert_allclose(found, nets[number].expected(given), rtol=1e-3, atol=1e-3)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(asked, range(3)))
    for one in lanes:
        one.__exit__(None, None, None)


def test_events_tell_computing_from_copying(cuda: Cuda) -> None:
    net = TorchNet(32)
    with lane(cuda, net) as one:
        given = images(32, 0)
        timings = [one.measure([given]) for _ in range(50)][10:]
    assert all(0 < timing.compute_ms < timing.total_ms < 1000 for timing in timings)


def test_memory_goes_back_with_the_lane(cuda: Cuda) -> None:
    net = TorchNet(8)
    with lane(cuda, net) as one:
        one.infer([images(8, 0)])
    free, _ = cuda("cudaMemGetInfo")
    for _ in range(20):
        with lane(cuda, net) as one:
            one.infer([images(8, 0)])
    assert cuda("cudaMemGetInfo")[0] >= free - (16 << 20)


def test_nvml_tells_of_the_very_gpu_that_cuda_uses(cuda: Cuda) -> None:
    found = find_gpu(cuda.bus)
    assert isinstance(found, Gpu)
    net = TorchNet(32)
    with GpuMonitor(found) as watch, lane(cuda, net) as one:
        for seed in range(200):
            one.infer([images(32, seed % 4)])
    told = watch.figures()
    major, minor = divmod(cuda.capability, 10)
    assert told.capability == f"{major}.{minor}"
    assert told.memory_bytes == pytest.approx(cuda("cudaMemGetInfo")[1], rel=0.1)
    assert told.name
    print(told)
