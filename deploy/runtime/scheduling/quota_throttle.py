"""CPU-quota throttle: a token bucket that delays engine calls so that the process stays below its cgroup's CPU quota.

The kernel lets a group run at full speed until its quota for the period (100 ms) is used up, then stops all of its
threads until the period ends, the event loop included. A process that never exhausts its quota is never stopped. So CPU
time is granted at slightly less than the quota's rate, with a small burst. (cgroup's cpu.max: kernel documentation,
scheduler/sched-bwc.)
"""

import threading
import time
from collections.abc import Callable
from math import ceil

SHARE = 0.9  # of the quota; the rest is for work that is not throttled here (health checks, the kernel's slice slack)
PERIOD_S = 0.1
BURST = 0.02  # of a period's quota: the size of the bucket
MIN_SLEEP_S = 1e-6  # shorter than a sleep can measure


class QuotaThrottle:
    """quota: CPUs; None: wait() returns at once."""

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
        """How many of `calls` may run at once: each further one may start before the CPU time of the others is seen."""
        return calls if self._quota is None else min(calls, ceil(self._quota))

    def wait(self) -> None:
        """Sleep until the bucket covers the CPU time used."""
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
