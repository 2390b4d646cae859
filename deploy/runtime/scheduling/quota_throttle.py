"""Staying below a CPU quota: a call to the engine waits until this process has earned it.

The kernel lets a group run at full speed until its quota of a period (100 ms) is used up, then stops all of its threads
until the period's end: whoever asks in that moment waits for it, the event loop included. A process that never uses its
quota up is never stopped. So CPU time is earned at a little less than the quota's rate, and little of it can be saved.
(cgroup's cpu.max: kernel documentation, scheduler/sched-bwc.)
"""

import threading
import time
from collections.abc import Callable
from math import ceil

SHARE = 0.9  # of the quota: the rest is for what is not ours to pace (health checks, the kernel's slack of slices)
PERIOD_S = 0.1
BURST = 0.02  # of a period's quota: how much may be used at once, on top of what is being earned
MIN_SLEEP_S = 1e-6  # less than a sleep can tell


class QuotaThrottle:
    """quota: CPUs; None, or no less than the CPUs there are: never waits."""

    def __init__(
        self,
        quota: float | None,
        clock: Callable[[], float] = time.monotonic,
        used: Callable[[], float] = time.process_time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._quota, self._rate = quota, None if quota is None else quota * SHARE
        self._most = 0.0 if quota is None else quota * PERIOD_S * BURST
        self._clock, self._used, self._sleep = clock, used, sleep
        self._lock = threading.Lock()
        self._saved, self._seen_s, self._used_s = self._most, clock(), used()

    @property
    def is_limited(self) -> bool:
        return self._rate is not None

    def max_concurrent(self, calls: int) -> int:
        """How many of `calls` to make at once: each one more may begin before what the others use is seen."""
        return calls if self._quota is None else min(calls, ceil(self._quota))

    def wait(self) -> None:
        """Until what was used is earned."""
        if self._rate is None:
            return
        while (debt := self._debt()) > MIN_SLEEP_S:
            self._sleep(debt / self._rate)

    def _debt(self) -> float:
        assert self._rate is not None
        with self._lock:
            now, used = self._clock(), self._used()
            earned = (now - self._seen_s) * self._rate - (used - self._used_s)
            self._saved = min(self._most, self._saved + earned)
            self._seen_s, self._used_s = now, used
            return -self._saved
