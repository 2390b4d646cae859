"""The threads that parse and decode: some for what is small, and others for large images, so that nobody waits for
those."""

import os
from collections.abc import Callable

from deploy.runtime.scheduling.fair_pool import FairPool

MAX_LARGE_WAITING = 32  # half of the default queue
LARGE_NICENESS = 10
STUCK_S = 20.0  # beyond the longest time that a request may take to its decoding's end


class DecodingPools:
    """timeout_s: until when a request must be decoded; on_error: gets what a piece of work raises."""

    def __init__(self, timeout_s: float, on_error: Callable[[Exception], None]) -> None:
        self.small = FairPool("decoding", 2, on_error)
        self.large = FairPool("large images", _large_threads(), on_error, MAX_LARGE_WAITING, LARGE_NICENESS)
        self._stuck_s = timeout_s + STUCK_S

    def stuck_reason(self) -> str:
        """Why this server should get no requests although its engine works; empty: no reason."""
        running_s = max(self.small.longest_run_s(), self.large.longest_run_s())
        words = f"decoding is stuck: a request has kept a thread for {running_s:.0f} s"
        return words if running_s > self._stuck_s else ""


def _large_threads() -> int:
    """Two, where that leaves half of the cores to everything else."""
    return 2 if len(os.sched_getaffinity(0)) >= 4 else 1
