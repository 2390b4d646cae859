"""Whose large request is next: by address and client, counted in rows; and how many pieces are on their way."""

from collections.abc import Hashable

import numpy as np

from deploy.runtime.scheduling.errors import EngineFault
from deploy.runtime.scheduling.fair_queue import QueuedRequest
from deploy.runtime.scheduling.split_queue import SplitOrder, SplitQueue
from deploy.runtime.scheduling.split_request import SplitRequest


def large(client: str, rows: int, group: str | None = None) -> QueuedRequest:
    feeds = {"image": np.zeros((rows, 2), np.uint8)}
    return QueuedRequest(feeds, rows, lambda outcome: None, 0.0, client=client, group=group)


def order(*requests: QueuedRequest) -> SplitOrder:
    found = SplitOrder(call_rows=4)
    for request in requests:
        found.put(SplitRequest(request))
    return found


def served(waiting: SplitOrder, count: int) -> list[tuple[Hashable, int]]:
    """Client and rows of what is next."""
    return [(piece.client, piece.rows) for _ in range(count) if (piece := waiting.pop())]


def test_clients_take_turns_and_a_newcomer_is_next() -> None:
    waiting = order(large("first", 10))
    assert served(waiting, 1) == [("first", 4)]
    waiting.put(SplitRequest(large("second", 6)))
    assert served(waiting, 9) == [("second", 4), ("first", 4), ("second", 2), ("first", 2)]


def test_an_address_with_many_connections_delays_another_by_one_call() -> None:
    waiting = order(*(large(f"connection {number}", 256, "attacker") for number in range(24)))
    assert served(waiting, 2) == [("connection 0", 4), ("connection 1", 4)]
    waiting.put(SplitRequest(large("honest", 8, "elsewhere")))
    assert served(waiting, 3) == [("honest", 4), ("connection 2", 4), ("honest", 4)]


def test_who_comes_back_at_once_gets_no_more_rows_than_others() -> None:
    waiting = order(large("greedy", 1000), large("again", 5))
    rows = {"greedy": 0, "again": 0}
    for _ in range(200):
        piece = waiting.pop()
        assert piece is not None and piece.split is not None
        rows[str(piece.client)] += piece.rows
        if piece.client == "again" and not piece.split.rows_left:
            waiting.put(SplitRequest(large("again", 5)))
    assert abs(rows["greedy"] - rows["again"]) < 0.1 * rows["greedy"]


def test_newcomers_without_end_starve_nobody() -> None:
    waiting = order(large("patient", 8), large("other", 4))
    for number in range(20):
        if ("patient", 4) in served(waiting, 1) and number:
            return
        waiting.put(SplitRequest(large(f"newcomer {number}", 4)))
    raise AssertionError("never served")


def test_only_so_many_pieces_are_on_their_way_and_what_failed_leaves() -> None:
    started: list[QueuedRequest] = []
    queue = SplitQueue(4, 2, started.append)
    queue.put(large("first", 100))
    queue.put(large("second", 4))
    assert [piece.client for piece in started] == ["first", "first"]
    fault = EngineFault("the engine failed")
    assert queue.collect(started[0], fault) is None
    assert [piece.client for piece in started] == ["first", "first", "second"], "nothing is left of the first"
    assert queue.collect(started[1], fault) is fault
    assert queue.collect(started[2], fault) is fault
    queue.wait_until_idle()


def test_a_piece_that_fails_as_it_is_started_starts_the_next_not_from_within() -> None:
    """Hundreds of requests would otherwise be as many nested calls."""
    fault, failed, depth = EngineFault("the engine failed"), list[str](), [0]

    def start(piece: QueuedRequest) -> None:
        depth[0] += 1
        assert depth[0] == 1
        assert queue.collect(piece, fault) is fault
        failed.append(str(piece.client))
        depth[0] -= 1

    queue = SplitQueue(4, 2, start)
    for number in range(5):
        queue.put(large(f"{number}", 100))
    assert failed == ["0", "1", "2", "3", "4"]
