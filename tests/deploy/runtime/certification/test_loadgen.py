import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.runtime.certification.loadgen import describe_invalid_run, log_folder, offline, read_log, single_stream
from deploy.runtime.engines.null import NullArtifact, NullEngine
from toolchain.errors import DeviceError
from toolchain.records.tensors import Array, Feeds, TensorSpec

PICTURES = np.arange(5 * 12, dtype=np.uint8).reshape(5, 2, 2, 3)


class Watched(NullEngine):
    """The null engine; keeps what it was fed, and breaks at one call."""

    def __init__(self, delay_ms: float, breaks_at: int = -1, error: BaseException | None = None) -> None:
        specs = TensorSpec("image", "uint8", (None, 2, 2, 3)), TensorSpec("logits", "float32", (None, 4))
        super().__init__(NullArtifact((specs[0],), (specs[1],), delay_ms))
        self.fed: list[Array] = []
        self._breaks_at, self._error = breaks_at, error

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        self.fed.append(feeds["image"])
        if self._error is not None and len(self.fed) > self._breaks_at:
            raise self._error
        return super().infer(feeds)


def test_single_stream_keeps_every_latency() -> None:
    engine = Watched(delay_ms=5)
    scenario = single_stream(engine, PICTURES, 0.4)
    assert (scenario.scenario, scenario.valid, scenario.note) == ("SingleStream", True, "")
    assert len(scenario.latencies_ms) >= 64
    assert min(scenario.latencies_ms) >= 5
    assert scenario.seconds >= 0.4
    assert scenario.throughput_per_s == pytest.approx(len(scenario.latencies_ms) / scenario.seconds)
    assert scenario.throughput_per_s <= 200
    assert {fed.shape for fed in engine.fed} == {(1, 2, 2, 3)}
    assert {int(fed[0, 0, 0, 0]) for fed in engine.fed} == {0, 12, 24, 36, 48}


def test_the_same_seconds_ask_for_the_same_pictures_in_the_same_order() -> None:
    def asked() -> list[int]:
        engine = Watched(delay_ms=2)
        queries = len(single_stream(engine, PICTURES, 0.2).latencies_ms)
        return [int(fed[0, 0, 0, 0]) for fed in engine.fed[-queries:]][:60]

    assert asked() == asked()


def test_a_run_too_short_for_its_percentile_is_not_valid() -> None:
    scenario = single_stream(Watched(delay_ms=30), PICTURES, 0.1)
    assert not scenario.valid
    assert 3 <= len(scenario.latencies_ms) < 64
    assert f"{len(scenario.latencies_ms)} queries; the 90th percentile needs 64: run longer" in scenario.note
    assert "enough queries" in scenario.note
    assert scenario.percentile_ms(90) is None


class Waking(Watched):
    """Forty times as fast from its thirtieth call on: a machine that wakes up in the middle of a run."""

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        if len(self.fed) == 30:
            self._delay_s /= 40
        return super().infer(feeds)


@pytest.mark.parametrize("scenario", [single_stream, offline])
def test_an_engine_that_became_faster_is_asked_again(scenario: Any) -> None:
    found = scenario(Waking(delay_ms=20), PICTURES, 0.5)
    assert found.valid, found.note
    assert found.seconds >= 0.5


def test_offline_answers_one_query_in_equal_batches() -> None:
    engine = Watched(delay_ms=4)
    scenario = offline(engine, PICTURES, 0.3)
    assert (scenario.scenario, scenario.valid, scenario.note) == ("Offline", True, "")
    assert {fed.shape for fed in engine.fed} == {(16, 2, 2, 3)}
    assert len(scenario.latencies_ms) == 1
    assert scenario.seconds >= 0.3
    assert scenario.latencies_ms[0] / 1e3 == pytest.approx(scenario.seconds, rel=0.01)
    assert 500 < scenario.throughput_per_s <= 4000


def test_offline_keeps_as_many_requests_going_as_the_engine_likes() -> None:
    alone, four = Watched(delay_ms=4), Watched(delay_ms=4)
    four.requests = 4
    assert offline(four, PICTURES, 0.2).throughput_per_s > 1.5 * offline(alone, PICTURES, 0.2).throughput_per_s


@pytest.mark.parametrize("scenario", [single_stream, offline])
@pytest.mark.parametrize("error", [DeviceError("the device fell over"), KeyboardInterrupt()])
def test_what_the_engine_raises_ends_the_run_and_is_raised(scenario: Any, error: BaseException) -> None:
    engine = Watched(delay_ms=10, breaks_at=25, error=error)
    with pytest.raises(type(error)):
        scenario(engine, PICTURES, 0.5)
    assert len(engine.fed) <= 27
    assert single_stream(Watched(delay_ms=1), PICTURES, 0.1).valid


def test_the_log_is_written_to_memory_and_vanishes() -> None:
    with log_folder() as folder:
        assert folder.is_relative_to(os.environ.get("TMPDIR") or "/dev/shm")
    assert not folder.exists()


def test_a_root_without_a_writable_place_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.runtime.certification.loadgen.LOG_FOLDERS", ("/proc/nowhere",))
    monkeypatch.delenv("TMPDIR", raising=False)
    with (
        pytest.raises(DeviceError, match=r"nowhere to write LoadGen's log \(tried /proc/nowhere\).*--tmpfs /tmp"),
        log_folder(),
    ):
        pass


def test_loadgen_s_log_is_read_by_key_and_its_errors_are_kept(tmp_path: Path) -> None:
    def line(key: str, value: object, is_error: bool = False) -> str:
        return (
            ":::MLLOG " + msgspec.json.encode({"key": key, "value": value, "metadata": {"is_error": is_error}}).decode()
        )

    log = tmp_path / "detail.txt"
    broken = line("error_runtime", "too slow", True).replace("too slow", "too\nslow")
    log.write_text("\n".join([line("a", 1), "noise", line("a", 2), broken]))
    assert read_log(log) == {"a": 2, "error_runtime": "too slow", "errors": ["too slow"]}


@pytest.mark.parametrize(
    ("log", "note"),
    [
        ({"result_validity": "VALID"}, ""),
        ({"result_validity": "INVALID", "result_invalid_reason": " Reduce target QPS "}, "Reduce target QPS"),
        ({"result_validity": "INVALID", "result_min_duration_met": False}, "it ended before the requested time"),
        ({"result_validity": "INVALID"}, "too few queries for LoadGen's rules: run longer"),
        ({"result_validity": "VALID", "errors": ["broken"]}, "broken"),
    ],
)
def test_a_run_that_is_not_valid_always_says_why(log: dict[str, Any], note: str) -> None:
    assert describe_invalid_run({"errors": [], **log}, None) == note


def test_the_log_stays_small_however_many_queries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sizes: list[int] = []

    def measured(path: Path) -> dict[str, object]:
        sizes.append(sum(file.stat().st_size for file in path.parent.iterdir()))
        return read_log(path)

    monkeypatch.setattr("deploy.runtime.certification.loadgen.read_log", measured)
    offline(Watched(0.0), PICTURES, 0.2)
    assert max(sizes) < 100_000


def test_a_log_that_was_cut_off_is_told_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "detail.txt"
    log.write_text(':::MLLOG {"key": "a", "value": "hal')
    with pytest.raises(DeviceError, match="LoadGen's log cannot be read"):
        read_log(log)
