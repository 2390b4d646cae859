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
    """Rounds of two slices per release. The machine's speed varies between rounds, for both releases alike."""
    random = np.random.default_rng(seed)
    findings = []
    for _ in range(count):
        speed = float(np.exp(random.normal(0, 0.2)))
        sides = {"candidate": 1 + slower, "baseline": 1.0}
        own = {side: speed * level * float(np.exp(random.normal(0, noise))) for side, level in sides.items()}
        slices = {
            side: tuple(tuple((level * random.lognormal(0, 0.05, queries)).tolist()) for _ in range(2))
            for side, level in own.items()
        }
        findings.append(Round(slices, {side: (1 / level, 1 / level) for side, level in own.items()}))
    return findings


def by_metric(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {finding.metric: finding for finding in findings}


def test_equal_releases_pass_although_rounds_differ_by_a_fifth() -> None:
    findings = timed_findings(rounds(14, 0.0), MARGINS)
    assert {finding.verdict for finding in findings if finding.metric in ("p50", "throughput")} == {"passed"}
    assert overall_verdict(findings)[0] == "passed"


def test_a_ten_percent_slower_release_regresses_in_every_timed_metric() -> None:
    findings = by_metric(timed_findings(rounds(14, 0.10), MARGINS))
    assert findings["p50"].verdict == findings["p90"].verdict == findings["throughput"].verdict == "regressed"
    p50 = findings["p50"]
    assert p50.change == pytest.approx(0.10, abs=0.02)
    assert p50.low is not None and p50.high is not None and p50.p is not None
    assert 0.03 < p50.low < 0.10 < p50.high and p50.p < 0.01
    verdict, reason = overall_verdict(tuple(findings.values()))
    assert verdict == "regressed"
    assert reason.startswith(f"p50 is {100 * (p50.change or 0):.1f} % worse than the baseline (98 % CI +")


def test_a_faster_release_passes() -> None:
    assert overall_verdict(timed_findings(rounds(10, -0.2), MARGINS))[0] == "passed"


def test_a_change_at_the_margin_is_inconclusive() -> None:
    assert by_metric(timed_findings(rounds(10, 0.03), MARGINS))["p50"].verdict == "inconclusive"


def test_a_percentile_with_too_few_samples_gets_no_verdict() -> None:
    findings = by_metric(timed_findings(rounds(10, 0.0, queries=40), MARGINS))
    assert findings["p99"].verdict == "" and findings["p99"].change is None
    assert findings["p99"].note == "80 requests per round; p99 needs 662"
    assert findings["p90"].verdict != ""
    few = timed_findings(rounds(10, 0.0, queries=3), MARGINS)
    assert overall_verdict(few) == ("inconclusive", "p50: 6 requests per round; p50 needs 8")


def test_a_wider_margin_is_respected() -> None:
    wide = {BASELINE: dict.fromkeys(MARGINS[BASELINE], 0.2)}
    assert overall_verdict(timed_findings(rounds(14, 0.10), wide))[0] == "passed"


def test_an_inconclusive_tail_blocks_nothing_but_a_regressed_one_does() -> None:
    passed = Finding("p50", BASELINE, "passed", 0.0)
    inconclusive = Finding("p99", BASELINE, "inconclusive", 0.08, -0.1, 0.3, 0.1, 0.4)
    worse = Finding("p99", BASELINE, "regressed", 0.4, 0.3, 0.5, 0.1, 0.001)
    assert overall_verdict([passed, inconclusive])[0] == "passed"
    assert overall_verdict([passed, worse])[0] == "regressed"


def test_sizes_are_exact_and_need_no_rounds() -> None:
    assert size_finding("memory", 105, 100, BASELINE, 0.1).verdict == "passed"
    bigger = size_finding("memory", 120, 100, BASELINE, 0.1)
    assert bigger.verdict == "regressed"
    assert format_finding(bigger) == "memory is 20.0 % worse than the baseline; the budget is 10.0 %"
    assert size_finding("memory", 0, 100, BASELINE, 0.1).note == "cannot be read here"


def side(right: int | None) -> GatedRelease:
    return GatedRelease("b", "n", "1", "i", "fp32", "e", 1, 1, right, 400 if right is not None else 0)


def test_accuracy_regresses_only_if_more_images_are_lost_than_by_chance() -> None:
    assert accuracy_finding(side(380), side(381), BASELINE, 0.005, 1, 0).verdict == "passed"
    assert accuracy_finding(side(350), side(380), BASELINE, 0.005, 32, 2).verdict == "regressed"
    assert accuracy_finding(side(376), side(380), BASELINE, 0.005, 8, 4).verdict == "inconclusive"
    assert accuracy_finding(side(350), side(380), BASELINE, 0.005, None, None).note == "measured on different images"
    assert accuracy_finding(side(None), side(380), BASELINE, 0.005, None, None).verdict == ""
    lost = accuracy_finding(side(350), side(380), BASELINE, 0.005, 32, 2)
    assert format_finding(lost) == "accuracy is 7.5 points worse than the baseline; the budget is 0.5 points"


def test_a_slowdown_within_a_round_or_a_stalled_slice_changes_no_metric() -> None:
    random = np.random.default_rng(0)
    findings = []
    for _ in range(14):
        speeds = np.exp(random.normal(0, 0.4, 21)).tolist()  # of each pair of slices
        stalled = int(random.integers(0, 21))
        slices = {
            side: tuple(
                (level * speed * (5.0 if pair == stalled and side == "candidate" else 1.0),) * 20
                for pair, speed in enumerate(speeds)
            )
            for side, level in {"candidate": 1.0001, "baseline": 1.0}.items()
        }
        rates = {side: tuple(1 / part[0] for part in parts) for side, parts in slices.items()}
        findings.append(Round(slices, rates))
    judged = by_metric(timed_findings(findings, MARGINS))
    for metric in ("p50", "throughput"):
        assert judged[metric].verdict == "passed"
        assert judged[metric].change == pytest.approx(0.0001, abs=1e-6)
