import numpy as np
import pytest

from deploy.gate.verdict import (
    BUDGETS,
    METRICS,
    accuracy_finding,
    format_finding,
    overall_verdict,
    size_finding,
    timed_findings,
)
from toolchain.records.gate import BASELINE, Finding, GatedRelease, Round

MARGINS = {BASELINE: {metric.name: BUDGETS[metric.name] for metric in METRICS}}


def rounds(count: int, slower: float, queries: int = 400, noise: float = 0.01, seed: int = 0) -> list[Round]:
    """Two slices a side and round; every round has a mood of its own, which both sides share."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        mood = float(np.exp(random.normal(0, 0.2)))
        sides = {"candidate": 1 + slower, "baseline": 1.0}
        own = {side: mood * level * float(np.exp(random.normal(0, noise))) for side, level in sides.items()}
        slices = {
            side: tuple(tuple((level * random.lognormal(0, 0.05, queries)).tolist()) for _ in range(2))
            for side, level in own.items()
        }
        found.append(Round(slices, {side: (1 / level, 1 / level) for side, level in own.items()}))
    return found


def by_metric(found: tuple[Finding, ...]) -> dict[str, Finding]:
    return {one.metric: one for one in found}


def test_equal_releases_pass_though_the_machine_moves_by_a_fifth_between_rounds() -> None:
    found = timed_findings(rounds(14, 0.0), MARGINS)
    assert {one.verdict for one in found if one.metric in ("p50", "throughput")} == {"passed"}
    assert overall_verdict(found)[0] == "passed"


def test_a_release_a_tenth_slower_is_regressed_in_every_figure_that_it_slows() -> None:
    found = by_metric(timed_findings(rounds(14, 0.10), MARGINS))
    assert found["p50"].verdict == found["p90"].verdict == found["throughput"].verdict == "regressed"
    p50 = found["p50"]
    assert p50.change == pytest.approx(0.10, abs=0.02)
    assert p50.low is not None and p50.high is not None and p50.p is not None
    assert 0.03 < p50.low < 0.10 < p50.high and p50.p < 0.01
    verdict, reason = overall_verdict(tuple(found.values()))
    assert verdict == "regressed"
    assert reason.startswith(f"p50 is {100 * (p50.change or 0):.1f} % worse than the baseline (98 % CI +")


def test_a_faster_release_passes() -> None:
    assert overall_verdict(timed_findings(rounds(10, -0.2), MARGINS))[0] == "passed"


def test_what_lies_on_the_margin_is_neither() -> None:
    assert by_metric(timed_findings(rounds(10, 0.03), MARGINS))["p50"].verdict == "inconclusive"


def test_a_percentile_without_the_samples_that_it_needs_is_not_judged() -> None:
    found = by_metric(timed_findings(rounds(10, 0.0, queries=40), MARGINS))
    assert found["p99"].verdict == "" and found["p99"].change is None
    assert found["p99"].note == "80 requests a round; p99 needs 662"
    assert found["p90"].verdict != ""
    few = timed_findings(rounds(10, 0.0, queries=3), MARGINS)
    assert overall_verdict(few) == ("inconclusive", "p50: 6 requests a round; p50 needs 8")


def test_a_wider_margin_is_kept_to() -> None:
    wide = {BASELINE: dict.fromkeys(MARGINS[BASELINE], 0.2)}
    assert overall_verdict(timed_findings(rounds(14, 0.10), wide))[0] == "passed"


def test_a_tail_that_is_only_unsure_stops_nothing_but_one_that_is_worse_does() -> None:
    passed = Finding("p50", BASELINE, "passed", 0.0)
    inconclusive = Finding("p99", BASELINE, "inconclusive", 0.08, -0.1, 0.3, 0.1, 0.4)
    worse = Finding("p99", BASELINE, "regressed", 0.4, 0.3, 0.5, 0.1, 0.001)
    assert overall_verdict([passed, inconclusive])[0] == "passed"
    assert overall_verdict([passed, worse])[0] == "regressed"


def test_bytes_are_known_and_need_no_rounds() -> None:
    assert size_finding("memory", 105, 100, BASELINE, 0.1).verdict == "passed"
    bigger = size_finding("memory", 120, 100, BASELINE, 0.1)
    assert bigger.verdict == "regressed"
    assert format_finding(bigger) == "memory is 20.0 % worse than the baseline; the budget is 10.0 %"
    assert size_finding("memory", 0, 100, BASELINE, 0.1).note == "not readable here"


def side(right: int | None) -> GatedRelease:
    return GatedRelease("b", "n", "1", "i", "fp32", "e", 1, 1, right, 400 if right is not None else 0)


def test_accuracy_is_regressed_only_where_more_pictures_are_lost_than_chance_loses() -> None:
    assert accuracy_finding(side(380), side(381), BASELINE, 0.005, 1, 0).verdict == "passed"
    assert accuracy_finding(side(350), side(380), BASELINE, 0.005, 32, 2).verdict == "regressed"
    assert accuracy_finding(side(376), side(380), BASELINE, 0.005, 8, 4).verdict == "inconclusive"
    assert accuracy_finding(side(350), side(380), BASELINE, 0.005, None, None).note == "measured on different images"
    assert accuracy_finding(side(None), side(380), BASELINE, 0.005, None, None).verdict == ""
    lost = accuracy_finding(side(350), side(380), BASELINE, 0.005, 32, 2)
    assert format_finding(lost) == "accuracy is 7.5 points worse than the baseline; the budget is 0.5 points"


def test_a_machine_that_slows_down_within_a_round_or_stalls_one_slice_moves_no_figure() -> None:
    random = np.random.default_rng(0)
    found = []
    for _ in range(14):
        moods = np.exp(random.normal(0, 0.4, 21)).tolist()  # of each pair of slices
        stalled = int(random.integers(0, 21))
        slices = {
            side: tuple(
                (level * mood * (5.0 if pair == stalled and side == "candidate" else 1.0),) * 20
                for pair, mood in enumerate(moods)
            )
            for side, level in {"candidate": 1.0001, "baseline": 1.0}.items()
        }
        rates = {side: tuple(1 / part[0] for part in parts) for side, parts in slices.items()}
        found.append(Round(slices, rates))
    judged = by_metric(timed_findings(found, MARGINS))
    for metric in ("p50", "throughput"):
        assert judged[metric].verdict == "passed"
        assert judged[metric].change == pytest.approx(0.0001, abs=1e-6)
