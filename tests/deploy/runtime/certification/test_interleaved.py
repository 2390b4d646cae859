import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from deploy.runtime.certification.interleaved import run_interleaved
from tests.bundles import null_bundle
from toolchain.records.manifest import Needs


def answers(folder: Path, *lines: str, **changes: Any) -> list[dict[str, Any]]:
    out = StringIO()
    run_interleaved(null_bundle(folder / "b", delay_ms=2, **changes), 1, [line + "\n" for line in lines], out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_slice_is_played_for_each_line_until_there_are_no_more(tmp_path: Path) -> None:
    one, two = answers(tmp_path, '{"precision": "fp32", "queries": 3}', '{"precision": "fp32", "queries": 20}')
    assert (len(one["latencies_ms"]), len(two["latencies_ms"])) == (3, 20)
    assert min(two["latencies_ms"]) >= 2
    assert list(one) == ["latencies_ms", "peak_memory_bytes", "engine"]


def test_a_throughput_slice_tells_pictures_a_second(tmp_path: Path) -> None:
    """16 pictures a call of 2 ms, one call at a time: at most 8,000 a second."""
    (played,) = answers(tmp_path, '{"precision": "fp32", "queries": 5, "what": "throughput"}')
    assert 800 < played["throughput_per_s"] <= 8000
    assert "latencies_ms" not in played


def test_the_held_out_pictures_are_told_one_by_one_with_the_device(tmp_path: Path) -> None:
    (played,) = answers(tmp_path, '{"precision": "fp32", "queries": 1, "what": "pictures"}')
    assert played["right"] == [True] * 12
    assert played["device"]["cores"] >= 1


def test_a_slice_is_slower_by_the_share_that_was_asked_for(tmp_path: Path) -> None:
    """At least what was asked is spun away. No ratio of two rates: a busy machine takes from either what it likes."""
    lines = [f'{{"precision": "fp32", "queries": 20, "slower": {share}}}' for share in (0.0, 0.5)]
    plain, slower = answers(tmp_path, *lines)
    assert min(plain["latencies_ms"]) >= 2
    assert min(slower["latencies_ms"]) >= 3
    lines = [f'{{"precision": "fp32", "queries": 10, "what": "throughput", "slower": {share}}}' for share in (0.0, 1.0)]
    plain, slower = answers(tmp_path / "rate", *lines)
    assert plain["throughput_per_s"] <= 8000, "16 pictures in 2 ms"
    assert slower["throughput_per_s"] <= 4000


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('{"precision": "int8", "queries": 3}', "no candidate 'int8' in this bundle; it has: fp32"),
        ('{"precision": "fp32", "queries": 0}', "queries: expected at least 1, got 0"),
        ("hello", "not a turn: JSON is malformed: invalid character (byte 0); expected {"),
        ('{"precision": "fp32"}', "not a turn: Object missing required field `queries`; expected {"),
    ],
)
def test_a_line_that_does_not_fit_is_answered_in_words_and_the_duet_goes_on(
    tmp_path: Path, line: str, error: str
) -> None:
    refused, played = answers(tmp_path, line, '{"precision": "fp32", "queries": 1}')
    assert refused["error"].startswith(error)
    assert len(played["latencies_ms"]) == 1


def test_a_device_that_lacks_what_is_needed_says_so(tmp_path: Path) -> None:
    (refused,) = answers(tmp_path, '{"precision": "fp32", "queries": 3}', needs=Needs(cpu_isa=("avx9",)))
    assert "lacks avx9" in refused["error"]
