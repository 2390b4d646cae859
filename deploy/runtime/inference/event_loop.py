"""An event loop that looks at its sockets when it can do something about what they bring.

While the engine has all that it can take, a request that is read now can begin no sooner than one that is read when
another ends. On a machine whose cores all compute, each waking takes a core from the engine: so the loop sleeps until
work lands (landing.py), two milliseconds at most, and does both in one go. Two points of throughput in our
measurements (docs/lab.md), and no time lost: the engine holds enough meanwhile.
"""

import asyncio
import select
import selectors
from collections.abc import Callable

MAX_DEFERRAL_S = 0.002  # what does not need the engine (health, a refusal, the page) waits so long at most


class DeferredPollingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._deferred = _DeferredSelector()
        super().__init__(self._deferred)

    def defer_while(self, is_saturated: Callable[[], bool], wakeup_fd: int) -> None:
        """full: whether the engine has all that it can take; raised: a descriptor that becomes readable when work
        lands, also registered with the loop as a reader."""
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
