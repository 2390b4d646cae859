"""Releases that play rounds without a container: latencies drawn by a seed, with a machine's moods, in a time of their
own: a busy machine changes none of them."""

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
    """perf_counter() of a host on which nothing takes time but the requests."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


CLOCK = Clock()


@dataclass
class Drawn:
    """median_ms with 2 % of noise a request and `mood` of noise a slice; what it plays takes that long by CLOCK."""

    median_ms: float = 1.0
    seed: int = 0
    mood: float = 0.005
    device: Fingerprint = DEVICE
    engine: str = "drawn 1"
    right: tuple[bool, ...] = (True,) * 200
    memory: int = 100 << 20
    throttled: int = 0
    lost: int = 0  # answers that go missing in a slice
    joules: float | None = None  # of a picture
    clock: float = 1.0  # how fast its clock runs
    random: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def _joules(self, turn: SliceRequest) -> float | None:
        return self.joules and self.joules * turn.queries * THROUGHPUT_BATCH * float(self.random.normal(1, 0.02))

    def run_slice(self, turn: SliceRequest) -> SliceResult:
        if turn.what == "pictures":
            return SliceResult(right=self.right, device=self.device, threads=1, engine=self.engine, precision="fp32")
        mood = float(np.exp(self.random.normal(0, self.mood))) * self.median_ms * (1 + turn.slower)
        known = SliceResult(throttled_periods=self.throttled, peak_memory_bytes=self.memory, engine=self.engine)
        if turn.what == "throughput":
            return msgspec.structs.replace(known, throughput_per_s=1e3 / mood, joules=self._joules(turn))
        latencies = mood * np.exp(self.random.normal(0, 0.02, turn.queries - self.lost))
        CLOCK.now_s += latencies.sum() * (1 + WARMUP_CALLS / turn.queries) / 1000 / self.clock
        return msgspec.structs.replace(known, latencies_ms=tuple(latencies.tolist()))


def arms(**changes: str) -> dict[str, Arm]:
    """A candidate and a baseline; changes: fields of the candidate."""
    plain = {"bundle": "b" * 64, "name": "net", "release": "1", "certify": "c" * 64}
    return {
        CANDIDATE: Arm("edge-net:2", 100, **{**plain, "release": "2", "bundle": "a" * 64, **changes}),
        BASELINE: Arm("edge-net:1", 100, **plain),
    }


def opening(*runs: Mapping[str, SliceRunner]):  # type: ignore[no-untyped-def]  # what gate() calls Open
    """Each run of a gate gets the next of `runs`; the last serves for all that follow."""
    left = list(runs)

    @contextmanager
    def opened(entrants: Mapping[str, ArmContainer], threads: int) -> Iterator[Mapping[str, SliceRunner]]:
        yield left.pop(0) if len(left) > 1 else left[0]

    return opened
