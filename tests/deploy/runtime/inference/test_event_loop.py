"""A loop that lets its sockets wait while the engine is full, and no longer than it must."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

import pytest

from deploy.runtime.inference import event_loop as patience
from deploy.runtime.inference.callback_queue import CallbackQueue
from deploy.runtime.inference.event_loop import DeferredPollingLoop


def came(
    full: Callable[[], bool], monkeypatch: pytest.MonkeyPatch, lands_after_s: float | None = None, wait_s: float = 0.3
) -> tuple[list[str], float]:
    """What came first to last, of a byte that a socket has at once and of work that lands later; seconds till the byte.
    wait_s: how long the loop is patient."""
    monkeypatch.setattr(patience, "MAX_DEFERRAL_S", wait_s)
    told: list[str] = []

    async def main() -> float:
        loop = asyncio.get_running_loop()
        landing = CallbackQueue(loop)
        landing.defer_polling_while(full)
        one, other = socket.socketpair()
        with one, other:
            read, landed = asyncio.Event(), asyncio.Event()
            loop.add_reader(one, lambda: (told.append("byte"), one.recv(1), read.set()))
            other.send(b"x")
            began = time.perf_counter()
            if lands_after_s is not None:
                land = partial(landing.call_soon, lambda: (told.append("work"), landed.set()))
                threading.Timer(lands_after_s, land).start()
            await read.wait()
            took_s = time.perf_counter() - began
            if lands_after_s is not None:
                await asyncio.wait_for(landed.wait(), 60)
            loop.remove_reader(one)
        return took_s

    with asyncio.Runner(loop_factory=DeferredPollingLoop) as runner:
        return told, runner.run(main())


def test_while_the_engine_is_full_what_a_socket_brings_waits_for_work_that_lands(monkeypatch) -> None:
    told, took_s = came(lambda: True, monkeypatch, lands_after_s=0.05, wait_s=60.0)
    assert sorted(told) == ["byte", "work"]
    assert 0.05 <= took_s < 30


def test_it_waits_no_longer_than_its_patience(monkeypatch) -> None:
    told, took_s = came(lambda: True, monkeypatch)
    assert told == ["byte"]
    assert took_s >= 0.3


def test_while_the_engine_could_take_more_nothing_waits(monkeypatch) -> None:
    told, took_s = came(lambda: False, monkeypatch, lands_after_s=3.0, wait_s=60.0)
    assert told == ["byte", "work"]
    assert took_s < 3.0


def test_a_timer_is_not_late_for_it(monkeypatch) -> None:
    monkeypatch.setattr(patience, "MAX_DEFERRAL_S", 60.0)

    async def main() -> float:
        CallbackQueue(loop := asyncio.get_running_loop()).defer_polling_while(lambda: True)
        began = loop.time()
        await asyncio.sleep(0.02)
        return loop.time() - began

    with asyncio.Runner(loop_factory=DeferredPollingLoop) as runner:
        assert 0.02 <= runner.run(main()) < 30


def test_a_loop_of_another_kind_is_left_as_it_is() -> None:
    async def main() -> None:
        CallbackQueue(asyncio.get_running_loop()).defer_polling_while(lambda: True)
        await asyncio.sleep(0)

    asyncio.run(main())
