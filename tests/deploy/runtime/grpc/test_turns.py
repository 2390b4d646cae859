"""Connections with much to read share the event loop's time."""

import asyncio
from functools import partial

from deploy.runtime.grpc.turns import TURN_S, TurnQueue


def test_work_goes_on_in_turns_and_others_run_between_them() -> None:
    now, order = 0.0, list[str]()

    def work(name: str) -> None:
        nonlocal now
        now += TURN_S / 2
        order.append(name)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        turns = TurnQueue(loop, lambda: now)
        for name in "abc":
            turns.add(partial(work, name))
        loop.call_soon(order.append, "other")
        while len(order) < 4:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert order == ["a", "b", "other", "c"]


def test_work_that_fails_keeps_nobody_else_from_a_turn() -> None:
    done = list[str]()

    def fail() -> None:
        raise ValueError

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        turns = TurnQueue(loop)
        turns.add(fail)
        turns.add(lambda: done.append("b"))
        while not done:
            await asyncio.sleep(0)

    asyncio.run(run())
    assert done == ["b"]
