"""One budget of bytes for all clients, and what of it one client may hold."""

import threading

import pytest

from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.memory_budget import DEFAULT_BYTES, MemoryBudget, default_budget_bytes


def test_the_budget_is_a_quarter_of_the_containers_limit() -> None:
    assert default_budget_bytes(1 << 30) == 256 << 20
    assert default_budget_bytes(None) == default_budget_bytes(64 << 30) == DEFAULT_BYTES


def test_what_does_not_fit_is_refused_and_takes_nothing() -> None:
    budget = MemoryBudget(100)
    with budget.reserve(60) as first:
        with pytest.raises(Unavailable, match="of all clients would hold 110 bytes, the limit is 100") as refusal:
            budget.reserve(50)
        assert refusal.value.reason == "memory"
        first.grow(40)
        assert budget.held_bytes == 100
    assert budget.held_bytes == 0


def test_a_reservation_is_given_back_once() -> None:
    budget = MemoryBudget(100)
    reservation, _other = budget.reserve(60), budget.reserve(40)
    reservation.release()
    reservation.release()
    assert budget.held_bytes == 40


def test_the_requests_of_one_client_leave_the_rest_to_others() -> None:
    budget = MemoryBudget(100, client_bytes=50)
    with budget.reserve(30, "a"):
        with pytest.raises(Unavailable, match="of this client would hold 60 bytes, the limit is 50"):
            budget.reserve(30, "a")
        budget.reserve(30, "b").release()
        budget.reserve(60).release()
    budget.reserve(50, "a").release()


def test_threads_that_reserve_and_release_leave_nothing_behind() -> None:
    budget = MemoryBudget(1000, 500)

    def work(client: int) -> None:
        for _ in range(2000):
            budget.reserve(3, client).release()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.held_bytes == 0
    budget.reserve(1000).release()
