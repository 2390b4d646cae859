"""What a call costs by its rows: measured, kept, and used only where it pays."""

import time
from pathlib import Path

import pytest

from deploy.runtime.scheduling.batch_costs import calibrate_batches, measure_batch_costs
from tests.deploy.runtime.scheduling.test_service import Doubler
from toolchain.records.tensors import Array, Feeds, TensorSpec


class Slow(Doubler):
    """Some milliseconds a call, however many rows: a batch of eight is worth its while."""

    def __init__(self, call_s: float) -> None:
        super().__init__()
        self.requests, self.batch_sizes, self.pads_batches = 2, (1, 8, 32), False
        self.call_s, self.rows = call_s, list[int]()

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        self.rows.append(len(feeds["image"]))
        time.sleep(self.call_s)
        return super().infer(feeds)


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of 20 ms, which a busy machine makes a little longer, are none that make others wait."""
    monkeypatch.setattr("deploy.runtime.scheduling.batch_costs.MAX_CALL_S", 10.0)


@pytest.mark.usefixtures("lenient")
def test_the_cost_of_each_form_is_that_of_a_call_among_as_many_as_keep_the_engine_busy() -> None:
    costs = measure_batch_costs(Slow(0.02), slice_s=0.1)
    assert set(costs) == {1, 8, 32}
    assert all(0.018 < cost < 0.4 for cost in costs.values())


def test_a_batch_that_would_make_all_others_wait_is_not_even_tried() -> None:
    slow = Slow(0.03)
    assert set(measure_batch_costs(slow, slice_s=0.01)) == {1}
    assert set(slow.rows) == {1}


@pytest.mark.usefixtures("lenient")
def test_costs_are_kept_for_the_next_start_and_another_bundle_has_its_own(tmp_path: Path) -> None:
    first = calibrate_batches(Slow(0.02), ("bundle", "int8"), tmp_path, None)
    assert set(first) == {1, 8, 32}
    again = Slow(0.02)
    assert calibrate_batches(again, ("bundle", "int8"), tmp_path, None) == first
    assert again.rows == [32, 32], "only what is used is prepared"
    calibrate_batches(Slow(0.02), ("another", "int8"), tmp_path, None)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.usefixtures("lenient")
def test_a_kept_record_that_cannot_be_read_is_made_again(tmp_path: Path) -> None:
    first = calibrate_batches(Slow(0.02), ("bundle",), tmp_path, None)
    (place,) = tmp_path.iterdir()
    place.write_text("{")
    assert set(calibrate_batches(Slow(0.02), ("bundle",), tmp_path, None)) == set(first)


def test_requests_of_a_model_with_a_fixed_batch_are_never_put_together() -> None:
    slow = Slow(0.001)
    slow.inputs = (TensorSpec("image", "uint8", (1, 2)),)
    assert calibrate_batches(slow, (), None, None) == {}
    assert slow.rows == []
