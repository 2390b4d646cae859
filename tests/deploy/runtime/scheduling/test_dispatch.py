"""Engines that call back: what waits is started at once, faults and silence end only the requests that they hit."""

import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

import numpy as np
import pytest

from deploy.runtime.engines import OnEngineResult
from deploy.runtime.scheduling import dispatch
from deploy.runtime.scheduling.dispatch import EngineCallbacks, WorkerThreads
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, EngineFault, Unavailable
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from deploy.runtime.scheduling.quota_throttle import QuotaThrottle
from deploy.runtime.scheduling.service import SchedulingOptions, Service
from tests.deploy.runtime.scheduling.test_service import Doubler
from toolchain.records.tensors import Array, Feeds


class Calling(Doubler):
    """A thread answers one call after the other, once it is let go; it never answers 254, and fails on 255."""

    def __init__(self, requests: int = 1) -> None:
        super().__init__()
        self.requests = self.max_in_flight = requests
        self.batch_sizes, self.pads_batches = (1, 8), True
        self.seen: list[int] = []
        self._asked: SimpleQueue[tuple[Feeds, OnEngineResult] | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def start(self, feeds: Feeds, on_result: OnEngineResult) -> None:
        self._asked.put((feeds, on_result))

    def _work(self) -> None:
        while (asked := self._asked.get()) is not None:
            feeds, on_result = asked
            self.seen.append(len(feeds["image"]))
            if feeds["image"].max() == 254:
                continue
            try:
                outputs: dict[str, Array] | Exception = self.infer(feeds)
            except Exception as error:
                outputs = error
            on_result(outputs)


def picture(value: int) -> Feeds:
    return {"image": np.full((1, 2), value, np.uint8)}


@pytest.fixture
def outcomes() -> Iterator[SimpleQueue[InferenceOutcome]]:
    yield SimpleQueue()


def asked(service: Service, outcomes: SimpleQueue[InferenceOutcome], *values: int) -> None:
    for value in values:
        service.admit()
        service.submit(picture(value), outcomes.put)


def answers(outcomes: SimpleQueue[InferenceOutcome], count: int) -> list[InferenceOutcome]:
    return [outcomes.get(timeout=60) for _ in range(count)]


def test_an_engine_that_calls_back_needs_no_threads_of_ours(outcomes: SimpleQueue[InferenceOutcome]) -> None:
    service = Service(Calling())
    assert isinstance(service._dispatcher, EngineCallbacks)
    asked(service, outcomes, 1, 2, 3)
    found = answers(outcomes, 3)
    assert [one.outputs["logits"].tolist() for one in found if isinstance(one, InferenceResult)] == [
        [[2, 2]],
        [[4, 4]],
        [[6, 6]],
    ]
    assert service.depth == 0
    service.close()


def test_what_has_to_wait_before_a_call_waits_on_threads() -> None:
    for terms, pacer in ((SchedulingOptions(max_delay_s=0.001), None), (SchedulingOptions(), QuotaThrottle(0.5))):
        service = Service(Calling(), terms, throttle=pacer)
        assert isinstance(service._dispatcher, WorkerThreads)
        service.close()


def test_an_engine_is_full_while_it_has_all_that_it_can_take(outcomes: SimpleQueue[InferenceOutcome]) -> None:
    engine = Calling(requests=2)
    engine.go.clear()
    service = Service(engine)
    asked(service, outcomes, 1)
    assert not service.is_full()
    asked(service, outcomes, 2, 3)
    assert service.is_full()
    engine.go.set()
    answers(outcomes, 3)
    service.close()
    assert not service.is_full()


def test_what_is_asked_by_threads_is_never_known_to_be_full(outcomes: SimpleQueue[InferenceOutcome]) -> None:
    service = Service(engine := Doubler())
    engine.go.clear()
    asked(service, outcomes, 1, 2, 3)
    assert not service.is_full()
    engine.go.set()
    answers(outcomes, 3)
    service.close()


def test_one_alone_goes_to_its_own_form_and_those_among_others_to_theirs(
    outcomes: SimpleQueue[InferenceOutcome],
) -> None:
    alone, crowd = Calling(), Calling(2)
    service = Service(alone, throughput_engine=crowd)
    asked(service, outcomes, 1)
    answers(outcomes, 1)
    assert (len(alone.seen), len(crowd.seen)) == (1, 0)
    alone.go.clear()
    asked(service, outcomes, 1, 2, 3, 4)
    assert len(answers(outcomes, 3)) == 3
    alone.go.set()
    answers(outcomes, 1)
    assert (len(alone.seen), len(crowd.seen)) == (2, 3)
    service.close()


def test_what_waited_meanwhile_is_answered_together_where_that_pays(outcomes: SimpleQueue[InferenceOutcome]) -> None:
    engine = Calling()
    engine.go.clear()
    service = Service(engine, costs={1: 1.0, 8: 2.0})
    asked(service, outcomes, *range(1, 7))
    engine.go.set()
    found = [one for one in answers(outcomes, 6) if isinstance(one, InferenceResult)]
    assert engine.seen == [1, 5]
    assert sorted(one.outputs["logits"][0, 0] for one in found) == [2, 4, 6, 8, 10, 12]
    assert [one.calls for one in found] == [(1,), (5,), (), (), (), ()]
    service.close()


def test_a_request_that_the_engine_fails_on_fails_alone(outcomes: SimpleQueue[InferenceOutcome]) -> None:
    engine = Calling()
    engine.go.clear()
    service = Service(engine, costs={1: 1.0, 8: 2.0})
    asked(service, outcomes, 1, 2, 255, 3)
    engine.go.set()
    found = answers(outcomes, 4)
    assert sum(isinstance(one, InferenceResult) for one in found) == 3
    assert [str(one) for one in found if isinstance(one, EngineFault)] == [
        "the engine failed: RuntimeError: the silicon melted"
    ]
    assert service.depth == 0
    service.close()


def test_late_requests_and_those_of_clients_that_left_cost_no_call(outcomes: SimpleQueue[InferenceOutcome]) -> None:
    engine = Calling()
    engine.go.clear()
    service = Service(engine)
    asked(service, outcomes, 1)
    for timeout_s, gone in ((0.0, False), (None, True), (None, False)):
        service.admit()
        service.submit(picture(2), outcomes.put, timeout_s, is_gone=lambda gone=gone: gone)
    time.sleep(0.01)
    engine.go.set()
    kinds = {type(one) for one in answers(outcomes, 4)}
    assert kinds == {InferenceResult, DeadlineExceeded, ClientDisconnected}
    assert engine.seen == [1, 1]
    service.close()


def test_an_engine_that_never_calls_back_is_given_up(
    outcomes: SimpleQueue[InferenceOutcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "STUCK_S", 0.2)
    told: list[str] = []
    service = Service(Calling(), on_device_lost=told.append)
    asked(service, outcomes, 254)
    (found,) = answers(outcomes, 1)
    assert isinstance(found, Unavailable) and found.reason == "lost_device"
    assert told == ["the engine has not answered for 0.2 s"]
