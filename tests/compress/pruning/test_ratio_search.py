from pathlib import Path

import msgspec
import pytest

from toolchain.compress.pruning.ratio_search import (
    PROBES_FILE,
    RatioProbe,
    bisect_ratio,
    cache_probes,
    smallest_sufficient,
)


def test_bisection_finds_the_smallest_ratio_that_reaches_the_target() -> None:
    probes = bisect_ratio(lambda ratio: RatioProbe(ratio, 1, 1 / (1 - ratio)), 2.0, 10)
    found = smallest_sufficient(probes, 2.0)
    assert found is not None and found.ratio == 0.5
    assert [probe.ratio for probe in probes[:4]] == [0.5, 0.25, 0.375, 0.4375]


def test_ratios_that_cannot_be_cut_are_searched_below() -> None:
    probes = bisect_ratio(lambda ratio: RatioProbe(ratio, 1, 1 / (1 - ratio)) if ratio < 0.6 else None, 4.0, 8)
    assert smallest_sufficient(probes, 4.0) is None
    assert max(probe.ratio for probe in probes) == pytest.approx(0.6, abs=0.01)


def test_a_curve_that_rises_still_gives_a_ratio_that_reaches() -> None:
    probes = bisect_ratio(lambda ratio: RatioProbe(ratio, 1, 1.6 if 0.2 < ratio < 0.3 or ratio > 0.6 else 1.1), 1.5, 6)
    found = smallest_sufficient(probes, 1.5)
    assert found is not None and found.times == 1.6


def test_probes_are_kept_for_the_same_search_only(tmp_path: Path) -> None:
    asked: list[float] = []

    def tried(ratio: float) -> RatioProbe | None:
        asked.append(ratio)
        return RatioProbe(ratio, 7, 2.0, 0.5) if ratio < 1 else None

    first = cache_probes(tried, tmp_path, ["a model"])
    assert first(0.5) == first(0.5) == cache_probes(tried, tmp_path, ["a model"])(0.5)
    assert first(1.0) is None
    assert asked == [0.5, 1.0]
    cache_probes(tried, tmp_path, ["another net"])(0.5)
    assert asked == [0.5, 1.0, 0.5]


@pytest.mark.parametrize("content", [b"{", msgspec.json.encode({"key": 1})])
def test_a_file_of_another_version_is_searched_anew(content: bytes, tmp_path: Path) -> None:
    (tmp_path / PROBES_FILE).write_bytes(content)
    found = cache_probes(lambda ratio: RatioProbe(ratio, 1, 2.0), tmp_path, ["a model"])(0.25)
    assert found == RatioProbe(0.25, 1, 2.0)


def test_a_probe_without_a_measurement_has_no_latency() -> None:
    assert RatioProbe(0.5, 10, 2.0).entry() == {"ratio": 0.5, "macs": 10, "times": 2.0}
    assert RatioProbe(0.5, 10, 2.0, 0.3).entry()["latency_ms"] == 0.3
