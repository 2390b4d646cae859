"""Who is next: one client after the other."""

import numpy as np

from deploy.runtime.scheduling.fair_queue import FairQueue, QueuedRequest
from deploy.runtime.scheduling.split_request import SplitRequest

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


def piece(rows: int) -> QueuedRequest:
    found = SplitRequest(job("large", 0, batch=100)).cut(rows)
    assert found is not None
    return found


def served(queue: FairQueue, count: int) -> list[tuple[object, int]]:
    """Client and rows of what is next."""
    return [(found.client, found.rows) for _ in range(count) if (found := queue.pop())]


def test_pieces_of_large_requests_and_all_others_get_as_many_rows_as_each_other() -> None:
    queue = FairQueue()
    for _ in range(3):
        queue.put(piece(2))
    for number in range(5):
        queue.put(job("small", number))
    large, small = ("large", 2), ("small", 1)
    assert served(queue, 8) == [large, small, small, large, small, small, large, small]
    assert queue.rows == 0


def test_another_request_is_before_the_next_piece_and_pieces_alone_do_not_wait() -> None:
    queue = FairQueue()
    for _ in range(3):
        queue.put(piece(8))
    assert served(queue, 2) == [("large", 8), ("large", 8)]
    queue.put(job("small", 0))
    assert served(queue, 2) == [("small", 1), ("large", 8)]


def test_a_piece_that_is_too_large_for_a_batch_keeps_its_turn() -> None:
    queue = FairQueue()
    queue.put(piece(8))
    queue.put(job("small", 0))
    assert queue.pop(4) is None
    assert served(queue, 2) == [("large", 8), ("small", 1)]
