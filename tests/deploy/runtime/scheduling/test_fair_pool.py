"""Threads that serve clients in turn: the order, the shares of who may wait, and work that fails or hangs."""

import os
import threading
import time
import weakref
from collections.abc import Hashable

import pytest

from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.fair_pool import FairPool, RoundRobinQueue


def order_of(works: list[tuple[str, Hashable, Hashable]]) -> str:
    """The names of (name, client, group) in the order in which they would be served."""
    served: list[str] = []
    queue = RoundRobinQueue()
    for name, client, group in works:
        queue.put(lambda name=name: served.append(name), client, group)  # type: ignore[misc]  # mypy: a default in a lambda
    for _ in works:
        queue.pop()()
    return "".join(served)


def test_a_client_with_many_waiting_delays_another_by_one() -> None:
    assert order_of([("a", 1, 1), ("b", 1, 1), ("c", 1, 1), ("d", 2, 1), ("e", 2, 1)]) == "adbec"


def test_an_address_with_many_clients_delays_another_by_one() -> None:
    assert order_of([("a", 1, 1), ("b", 2, 1), ("c", 3, 1), ("d", 9, 2), ("e", 9, 2)]) == "adbec"


class Blocked:
    """A pool whose only thread is kept until `go` is set."""

    def __init__(self, max_waiting: int | None = None, niceness: int = 0) -> None:
        self.go, self.errors, running = threading.Event(), list[Exception](), threading.Event()
        self.pool = FairPool("large images", 1, self.errors.append, max_waiting, niceness)

        def block() -> None:
            running.set()
            self.go.wait(30)

        self.pool.submit(block)
        assert running.wait(30)


def test_an_address_gets_half_of_the_places_and_nobody_gets_more_than_all() -> None:
    blocked = Blocked(max_waiting=4)
    for client in range(2):
        blocked.pool.submit(lambda: None, client, "address")
    words = r"^overloaded: 2 large images are waiting, the limit is 4, half for an address; try later$"
    with pytest.raises(Unavailable, match=words) as refusal:
        blocked.pool.submit(lambda: None, 3, "address")
    assert refusal.value.reason == "large_images"
    for client in range(2):
        blocked.pool.submit(lambda: None, client, "another")
    with pytest.raises(Unavailable):
        blocked.pool.submit(lambda: None, 4, "a third")
    blocked.pool.resubmit(lambda: None, 0, "address")  # its place was given to it before
    blocked.go.set()


def test_work_that_raises_is_reported_and_the_thread_goes_on() -> None:
    def fail() -> None:
        raise IndexError

    blocked, done = Blocked(), threading.Event()
    blocked.pool.submit(fail)
    blocked.pool.submit(done.set)
    blocked.go.set()
    assert done.wait(30)
    assert [type(error) for error in blocked.errors] == [IndexError]


def test_what_hangs_is_seen_and_forgotten_when_it_ends() -> None:
    blocked = Blocked()
    time.sleep(0.05)
    assert blocked.pool.longest_run_s() >= 0.05
    blocked.go.set()
    while blocked.pool.longest_run_s():
        time.sleep(0.01)


def test_an_idle_thread_keeps_nothing_of_its_last_work() -> None:
    class Picture:
        def decode(self) -> None:
            pass

    blocked, picture, gone = Blocked(), Picture(), threading.Event()
    weakref.finalize(picture, gone.set)
    blocked.pool.submit(picture.decode)
    del picture
    blocked.go.set()
    assert gone.wait(30)


def test_its_threads_step_back_behind_the_process() -> None:
    found: list[int] = []
    blocked, done = Blocked(niceness=3), threading.Event()

    def look() -> None:
        found.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        done.set()

    blocked.pool.submit(look)
    blocked.go.set()
    assert done.wait(30)
    assert found == [min(19, os.getpriority(os.PRIO_PROCESS, os.getpid()) + 3)]
