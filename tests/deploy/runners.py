"""Releases that run rounds without containers: seeded random latencies on a simulated clock, so that a busy machine
changes none of them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np

from deploy.gate.gate import Arm
from deploy.gate.rounds import ArmContainer, SliceRunner
from deploy.runtime.device.probe import fingerprint
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import BASELINE, CANDIDATE
from toolchain.records.interleaved import THROUGHPUT_BATCH, WARMUP_CALLS, SliceRequest, SliceResult

DEVICE = fingerprint()


class Clock:
    """perf_counter() of a simulated host on which only requests take time."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


CLOCK = Clock()


@dataclass
class Drawn:
    """A release with 2 % noise per request and `slice_noise` per slice; its requests advance CLOCK."""

    median_ms: float = 1.0
    seed: int = 0
    slice_noise: float = 0.005
    device: Fingerprint = DEVICE
    engine: str = "drawn 1"
    right: tuple[bool, ...] = (True,) * 200
    answers: tuple[int, ...] = (3,) * 16
    inputs: str = "golden"
    memory: int = 100 << 20
    throttled: int = 0
    lost: int = 0  # missing answers per slice
    joules: float | None = None  # per image
    clock: float = 1.0  # how fast its clock runs
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def _joules(self, request: SliceRequest) -> float | None:
        return self.joules and self.joules * request.queries * THROUGHPUT_BATCH * float(self.random.normal(1, 0.02))

    def run_slice(self, request: SliceRequest) -> SliceResult:
        if request.what == "pictures":
            answers = SliceResult(right=self.right, answers=self.answers, inputs=self.inputs)
            return msgspec.structs.replace(answers, device=self.device, threads=1, engine=self.engine, precision="fp32")
        latency_ms = float(np.exp(self.random.normal(0, self.slice_noise))) * self.median_ms * (1 + request.slower)
        known = SliceResult(throttled_periods=self.throttled, peak_memory_bytes=self.memory, engine=self.engine)
        if request.what == "throughput":
            return msgspec.structs.replace(known, throughput_per_s=1e3 / latency_ms, joules=self._joules(request))
        latencies = latency_ms * np.exp(self.random.normal(0, 0.02, request.queries - self.lost))
        CLOCK.now_s += latencies.sum() * (1 + WARMUP_CALLS / request.queries) / 1000 / self.clock
        return msgspec.structs.replace(known, latencies_ms=tuple(latencies.tolist()))


def arms(**changes: str) -> dict[str, Arm]:
    """A candidate and a baseline; changes: fields of the candidate."""
    plain = {"bundle": "b" * 64, "name": "net", "release": "1", "certify": "c" * 64}
    return {
        CANDIDATE: Arm("edge-net:2", 100, **{**plain, "release": "2", "bundle": "a" * 64, **changes}),
        BASELINE: Arm("edge-net:1", 100, **plain),
    }


def opening(*runs: Mapping[str, SliceRunner]):  # type: ignore[no-untyped-def]  # an OpenContainers
    """Each call gets the next of `runs`; the last one is used for all further calls."""
    left = list(runs)

    @contextmanager
    def open_runners(containers: Mapping[str, ArmContainer], threads: int) -> Iterator[Mapping[str, SliceRunner]]:
        yield left.pop(0) if len(left) > 1 else left[0]

    return open_runners
