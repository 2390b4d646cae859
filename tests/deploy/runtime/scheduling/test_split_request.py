"""A request of many rows: others get their turn between its calls, its rows come back in order, and what fails ends."""

import threading
import time
from queue import SimpleQueue

import numpy as np
import pytest

from deploy.runtime.scheduling.batching import largest_call
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, EngineFault
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult, QueuedRequest
from deploy.runtime.scheduling.service import SchedulingOptions, Service
from deploy.runtime.scheduling.split_request import SplitRequest
from tests.deploy.runtime.scheduling.test_dispatch import Calling
from tests.deploy.runtime.scheduling.test_service import Doubler
from toolchain.records.tensors import Array, Feeds, TensorSpec

COSTS = {1: 1.0, 8: 2.0}
ROWS = np.arange(40, dtype=np.uint8).reshape(20, 2)
OTHER = {"image": np.full((1, 2), 100, np.uint8)}


class Blocking(Doubler):
    """`seen`: the first number of each call, which waits until it is let go."""

    batch_sizes = (1, 8)

    def __init__(self, requests: int = 1) -> None:
        super().__init__()
        self.requests, self.seen = requests, list[tuple[int, int]]()
        self.go.clear()

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        self.seen.append((int(feeds["image"][0, 0]), len(feeds["image"])))
        return super().infer(feeds)


class BlockingCalls(Calling):
    """The same for an engine that calls back."""

    def __init__(self, requests: int = 1) -> None:
        super().__init__(requests)
        self.rows = list[tuple[int, int]]()
        self.go.clear()

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        self.rows.append((int(feeds["image"][0, 0]), len(feeds["image"])))
        return super().infer(feeds)


class Client:
    """Its requests to a service; is_gone: whether it has disconnected. outcomes: in the order in which they came."""

    def __init__(self, service: Service, group: str | None = None) -> None:
        self.service, self.group, self.is_gone = service, group, False
        self.outcomes: SimpleQueue[InferenceOutcome] = SimpleQueue()

    def ask(self, feeds: Feeds, timeout_s: float | None = None) -> None:
        self.service.admit()
        self.service.submit(feeds, self.outcomes.put, timeout_s, self, lambda: self.is_gone, self.group)

    def answer(self) -> InferenceResult:
        outcome = self.outcomes.get(timeout=60)
        assert isinstance(outcome, InferenceResult), outcome
        return outcome


def wait_for(condition: list[tuple[int, int]], count: int) -> None:
    limit = time.monotonic() + 60
    while len(condition) < count:
        assert time.monotonic() < limit
        time.sleep(0.001)


@pytest.mark.parametrize("kind", [Blocking, BlockingCalls])
def test_another_client_is_next_after_the_call_that_runs(kind: type[Blocking] | type[BlockingCalls]) -> None:
    engine = kind()
    seen = engine.seen if isinstance(engine, Blocking) else engine.rows
    service = Service(engine, costs=COSTS)
    large, small = Client(service), Client(service)
    large.ask({"image": ROWS})
    wait_for(seen, 1)
    small.ask(OTHER)
    assert service.depth == 2
    engine.go.set()
    assert large.answer().outputs["logits"].tolist() == (ROWS * 2).tolist()
    assert small.answer().outputs["logits"].tolist() == [[200, 200]]
    assert seen == [(0, 8), (100, 1), (16, 8), (32, 4)]
    assert service.depth == 0
    service.close()


@pytest.mark.parametrize("kind", [Blocking, BlockingCalls])
def test_rows_come_back_in_order_from_several_calls_at_once(kind: type[Blocking] | type[BlockingCalls]) -> None:
    engine = kind(requests=3)
    engine.go.set()
    service = Service(engine, costs=COSTS)
    clients = [Client(service) for _ in range(4)]
    for number, client in enumerate(clients):
        client.ask({"image": ROWS + number})
    for number, client in enumerate(clients):
        assert client.answer().outputs["logits"].tolist() == ((ROWS + number) * 2).tolist()
    service.close()


def test_its_times_and_calls_add_up() -> None:
    engine = Blocking()
    engine.go.set()
    service = Service(engine, costs=COSTS)
    began = time.perf_counter()
    found = service.infer({"image": ROWS})
    took_s = time.perf_counter() - began
    assert (found.rows, found.batch_rows, found.calls) == (20, 8, (8, 8, 4))
    assert found.infer_s > 0 and found.queue_s + found.infer_s <= took_s
    service.close()


def piece_result(split: SplitRequest, rows: int, start_s: float, took_s: float) -> InferenceOutcome | None:
    piece = split.cut(rows)
    assert piece is not None
    return split.collect(piece, InferenceResult({"logits": piece.feeds["image"]}, rows, start_s, took_s, rows, (rows,)))


def test_while_two_of_its_calls_overlap_it_does_not_wait() -> None:
    split = SplitRequest(QueuedRequest({"image": ROWS}, 20, lambda _: None, 0.0))
    assert piece_result(split, 8, 1.0, 4.0) is None
    assert piece_result(split, 8, 2.0, 2.0) is None
    found = piece_result(split, 4, 7.0, 1.0)
    assert isinstance(found, InferenceResult)
    assert (found.queue_s, found.infer_s) == (3.0, 5.0)


def test_no_row_is_copied_on_its_way_to_the_engine() -> None:
    split = SplitRequest(QueuedRequest({"image": ROWS}, 20, lambda _: None, 0.0))
    for _ in range(2):
        piece = split.cut(10)
        assert piece is not None and np.shares_memory(piece.feeds["image"], ROWS)


def test_a_client_that_goes_away_in_the_middle_costs_no_further_call() -> None:
    engine = Blocking()
    service = Service(engine, costs=COSTS)
    gone, other = Client(service), Client(service)
    gone.ask({"image": ROWS})
    wait_for(engine.seen, 1)
    other.ask({"image": ROWS + 50})
    gone.is_gone = True
    engine.go.set()
    assert isinstance(gone.outcomes.get(timeout=60), ClientDisconnected)
    assert other.answer().rows == 20
    service.close()
    assert engine.seen == [(0, 8), (50, 8), (66, 8), (82, 4)]
    assert (service.depth, service.wait_s) == (0, 0.0)


def test_one_that_has_closed_only_its_half_is_answered_where_nobody_else_asks() -> None:
    engine = Blocking()
    service = Service(engine, costs=COSTS)
    large = Client(service)
    large.ask({"image": ROWS})
    large.is_gone = True
    engine.go.set()
    assert large.answer().rows == 20
    service.close()


def test_what_has_been_started_is_finished_after_its_deadline_too() -> None:
    engine = Blocking()
    service = Service(engine, costs=COSTS)
    first, late = Client(service), Client(service)
    first.ask({"image": ROWS}, timeout_s=60)
    wait_for(engine.seen, 1)
    late.ask({"image": ROWS}, timeout_s=0.0)
    time.sleep(0.01)
    engine.go.set()
    assert isinstance(late.outcomes.get(timeout=60), DeadlineExceeded)
    assert first.answer().rows == 20
    service.close()
    assert len(engine.seen) == 3, "none for what was late before it began"

    slow = Blocking()
    service = Service(slow, costs=COSTS)
    client = Client(service)
    client.ask({"image": ROWS}, timeout_s=0.5)
    wait_for(slow.seen, 1)
    time.sleep(0.6)
    slow.go.set()
    assert client.answer().rows == 20
    service.close()


@pytest.mark.parametrize("kind", [Blocking, BlockingCalls])
def test_a_call_that_fails_ends_the_request_once_and_with_it_the_calls_to_come(
    kind: type[Blocking] | type[BlockingCalls],
) -> None:
    engine = kind()
    seen = engine.seen if isinstance(engine, Blocking) else engine.rows
    service = Service(engine, costs=COSTS)
    large, small = Client(service), Client(service)
    broken = ROWS.copy()
    broken[3] = 255
    large.ask({"image": broken})
    wait_for(seen, 1)
    small.ask(OTHER)
    engine.go.set()
    assert isinstance(large.outcomes.get(timeout=60), EngineFault)
    small.answer()
    service.close()
    assert large.outcomes.empty()
    assert seen == [(0, 8), (100, 1)]
    assert service.depth == 0


def test_the_outcome_waits_for_calls_that_still_read_the_request() -> None:
    """Its memory is free for others from then on."""
    split = SplitRequest(QueuedRequest({"image": ROWS}, 20, lambda _: None, 0.0))
    first, second = split.cut(8), split.cut(8)
    assert first is not None and second is not None
    fault = EngineFault("the engine failed")
    assert split.collect(first, fault) is None
    assert split.cut(4) is None
    assert split.collect(second, InferenceResult({}, 8, 0.0, 1.0, 8, (8,))) is fault


class Pairs(Doubler):
    """Its outputs have a second free axis."""

    outputs: tuple[TensorSpec, ...] = (TensorSpec("logits", "uint8", (None, None)),)

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        self.seen.append(len(feeds["image"]))
        return super().infer(feeds)


def test_where_rows_cannot_be_put_together_again_a_request_stays_whole() -> None:
    service = Service(engine := Pairs(), SchedulingOptions(max_batch=32), costs=COSTS)
    assert service.infer({"image": ROWS}).rows == 20
    assert engine.seen == [20]
    service.close()


def test_calls_have_the_rows_that_the_engine_answers_fastest_or_those_of_a_short_call() -> None:
    assert largest_call({1: 0.004, 8: 0.02}, (1, 8, 32)) == 8
    assert largest_call({1: 0.001}, (1, 8, 32)) == 8
    assert largest_call({1: 0.1}, (1, 8, 32)) == 1
    assert largest_call({1: 0.0002}, (1, 8, 32)) == 32


def test_many_at_once_on_many_threads_all_come_back_whole() -> None:
    engine = Blocking(requests=4)
    engine.go.set()
    service = Service(engine, SchedulingOptions(max_queue=64), costs=COSTS)
    wrong: list[int] = []

    def ask(number: int) -> None:
        rows = np.full((1 + number % 23, 2), number, np.uint8)
        if service.infer({"image": rows}).outputs["logits"].tolist() != (rows * 2).tolist():
            wrong.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(48)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (wrong, service.depth) == ([], 0)
    service.close()
