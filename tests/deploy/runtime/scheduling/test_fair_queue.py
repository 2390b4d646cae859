"""Who is next: one client after the other."""

import numpy as np

from deploy.runtime.scheduling.fair_queue import FairQueue, QueuedRequest

IMAGE = {"image": np.zeros((1, 2), np.uint8)}


def job(client: str, number: float, batch: int = 1) -> QueuedRequest:
    return QueuedRequest(IMAGE, batch, lambda outcome: None, number, client=client)


def test_clients_take_turns_however_much_one_of_them_asks() -> None:
    turns = FairQueue()
    for number in range(4):
        turns.put(job("greedy", number))
    turns.put(job("modest", 10))
    order = [(found.client, found.queued) for _ in range(5) if (found := turns.pop())]
    assert order == [("greedy", 0), ("modest", 10), ("greedy", 1), ("greedy", 2), ("greedy", 3)]
    assert turns.pop() is None


def test_rows_are_counted_and_a_job_that_is_too_large_keeps_its_turn() -> None:
    turns = FairQueue()
    turns.put(job("a", 0, batch=5))
    turns.put(job("b", 1, batch=2))
    assert turns.rows == 7
    assert turns.pop(4) is None
    found = turns.pop(5)
    assert found is not None and found.rows == 5
    assert turns.rows == 2
