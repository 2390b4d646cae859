"""Event loop that defers polling its sockets while the inference engine is saturated.

While the engine has as many calls as it takes, reading a request now cannot start it earlier than reading it when a
call ends. On a machine whose cores all compute, each wake-up takes a core from the engine: so the loop sleeps until a
callback arrives (callback_queue.py), two milliseconds at most, and does both in one go. Measured: two points of
throughput on an idle machine (docs/lab.md; docs/decisions/0014).
"""

import asyncio
import select
import selectors
from collections.abc import Callable

MAX_DEFERRAL_S = 0.002  # the longest wait of what needs no engine (health, errors, the page)


class DeferredPollingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._deferred = _DeferredSelector()
        super().__init__(self._deferred)

    def defer_while(self, is_saturated: Callable[[], bool], wakeup_fd: int) -> None:
        """is_saturated: whether the engine has as many calls as it takes; wakeup_fd: a descriptor that becomes readable
        when a callback arrives, also registered with the loop as a reader."""
        self._deferred.defer_while(is_saturated, wakeup_fd)


class _DeferredSelector(selectors.EpollSelector):
    def __init__(self) -> None:
        super().__init__()
        self._wakeup = select.poll()
        self._is_saturated: Callable[[], bool] = bool  # never

    def defer_while(self, is_saturated: Callable[[], bool], wakeup_fd: int) -> None:
        self._wakeup.register(wakeup_fd, select.POLLIN)
        self._is_saturated = is_saturated

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if (timeout is None or timeout > 0) and self._is_saturated():
            self._wakeup.poll(1e3 * min(MAX_DEFERRAL_S, MAX_DEFERRAL_S if timeout is None else timeout))
            timeout = 0
        return super().select(timeout)
