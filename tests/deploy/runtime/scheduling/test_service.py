"""Arrays in, arrays out: the queue's bound, deadlines, faults, and that closing finishes what was queued."""

import threading
import time
from queue import SimpleQueue
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from deploy.runtime.scheduling.errors import DeadlineExceeded, EngineFault, Unavailable
from deploy.runtime.scheduling.fair_queue import InferenceOutcome, InferenceResult
from deploy.runtime.scheduling.service import SchedulingOptions, Service
from toolchain.errors import LostDevice, RequestError
from toolchain.records.tensors import Array, Feeds, TensorSpec

ONE = {"image": np.zeros((1, 2), np.uint8)}


class Doubler:
    """An engine that waits until it is let go, and fails on 255."""

    inputs: tuple[TensorSpec, ...] = (TensorSpec("image", "uint8", (None, 2)),)
    outputs: tuple[TensorSpec, ...] = (TensorSpec("logits", "uint8", (None, 2)),)
    version = "doubler 1"
    requests = 1
    batch_sizes: tuple[int, ...] = (1,)
    pads_batches = True

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        self.go.wait()
        if feeds["image"].max() == 255:
            raise RuntimeError("the silicon\nmelted")
        return {"logits": feeds["image"] * 2}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def test_a_batch_is_passed_whole_and_its_times_are_told() -> None:
    service = Service(Doubler())
    answer = service.infer({"image": np.arange(6, dtype=np.uint8).reshape(3, 2)})
    assert answer.outputs["logits"].tolist() == [[0, 2], [4, 6], [8, 10]]
    assert (answer.rows, service.depth) == (3, 0)
    assert answer.queue_s >= 0
    assert answer.infer_s > 0
    service.close()


def test_feeds_that_do_not_fit_are_refused_and_give_their_place_back() -> None:
    service = Service(Doubler(), SchedulingOptions(max_batch=2))
    for feeds, message in (
        ({"image": np.zeros((1, 3), np.uint8)}, r"input 'image': expected uint8 \[N, 2\], got uint8 \[1, 3\]"),
        ({"image": np.zeros((3, 2), np.uint8)}, "input 'image': expected a batch of 1 to 2, got 3"),
        ({"image": np.zeros((0, 2), np.uint8)}, "input 'image': expected a batch of 1 to 2, got 0"),
    ):
        with pytest.raises(RequestError, match=message):
            service.infer(feeds)
    assert service.depth == 0
    service.close()


def test_beyond_the_bound_a_request_is_refused_at_once() -> None:
    engine = Doubler()
    engine.go.clear()
    service = Service(engine, SchedulingOptions(max_queue=2))
    outcomes: SimpleQueue[InferenceOutcome] = SimpleQueue()
    for _ in range(2):
        service.admit()
        service.submit(ONE, outcomes.put)
    with pytest.raises(Unavailable, match="overloaded: 2 requests are waiting, the limit is 2") as refused:
        service.admit()
    assert (refused.value.reason, refused.value.retry_after_s) == ("queue_full", 1)
    engine.go.set()
    service.close()
    assert isinstance(outcomes.get_nowait(), InferenceResult)
    assert isinstance(outcomes.get_nowait(), InferenceResult)


def test_a_request_whose_time_ran_out_in_the_queue_is_never_started() -> None:
    engine = Doubler()
    engine.go.clear()
    service = Service(engine)
    outcomes: SimpleQueue[InferenceOutcome] = SimpleQueue()
    for timeout_s in (None, 0.01):
        service.admit()
        service.submit(ONE, outcomes.put, timeout_s)
    time.sleep(0.05)
    engine.go.set()
    assert isinstance(outcomes.get(), InferenceResult)
    assert isinstance(outcomes.get(), DeadlineExceeded)
    service.close()


def test_an_engine_that_fails_is_told_in_one_line_and_asked_again() -> None:
    service = Service(Doubler())
    with pytest.raises(EngineFault, match="the engine failed: RuntimeError: the silicon melted"):
        service.infer({"image": np.full((1, 2), 255, np.uint8)})
    assert service.infer(ONE).outputs["logits"].tolist() == [[0, 0]]
    service.close()


class Lost(Doubler):
    """Its device is gone."""

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        raise LostDevice("CUDA error 719: this process has lost the GPU")


def test_a_lost_device_is_told_once_a_request_and_the_client_may_try_again() -> None:
    told: list[str] = []
    service = Service(Lost(), on_device_lost=told.append)
    with pytest.raises(Unavailable, match="CUDA error 719") as caught:
        service.infer(ONE)
    assert (caught.value.reason, caught.value.retry_after_s) == ("lost_device", 10)
    assert told == ["CUDA error 719: this process has lost the GPU"]
    service.close()
