import re
from typing import Any

import msgspec
import pytest

from deploy.gate.gate import Arm, GateOptions, GateProgress, compare_releases, throttling_reason
from tests.deploy.runners import CLOCK, DEVICE, Drawn, arms, opening
from tests.messages import calling
from toolchain.records.gate import ANCHOR, BASELINE, CANDIDATE, Gate, Round


def options(**changes: Any) -> GateOptions:
    return GateOptions(**{"threads": 1, "minutes": 1, **changes})


QUICK = options()


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.gate.rounds.SLICE_S", 0.0)
    monkeypatch.setattr("deploy.gate.rounds.ROUND_S", 0.25)
    monkeypatch.setattr("deploy.gate.rounds.perf_counter", CLOCK)


def judged(candidate: Drawn, baseline: Drawn, options: GateOptions = QUICK) -> Gate:
    run = {CANDIDATE: candidate, BASELINE: baseline}
    return compare_releases(arms(), options, open_containers=opening(run))


def fast(**changes: Any) -> Drawn:
    return Drawn(0.1, **changes)


def test_an_equal_release_passes_after_the_fewest_rounds_and_logs_the_interval(
    messages: list[str],
) -> None:
    gate = judged(fast(seed=1), fast(seed=2))
    assert (gate.verdict, len(gate.rounds), gate.confirming) == ("passed", 10, ())
    assert messages[0].startswith("  10 rounds: p50 ")
    assert gate.sides[CANDIDATE].accuracy == 1.0
    assert gate.sides[BASELINE].peak_memory_bytes == 100 << 20
    assert gate.fingerprint == DEVICE


def test_a_slower_release_is_regressed_only_after_a_second_run(messages: list[str]) -> None:
    gate = judged(Drawn(0.11, seed=1), fast(seed=2))
    assert gate.verdict == "regressed"
    assert len(gate.confirming) >= 10
    assert any("measuring again" in line for line in messages)
    p50 = next(finding for finding in gate.findings if finding.metric == "p50")
    assert p50.note == "seen in both runs"
    assert p50.change == pytest.approx(0.10, abs=0.02)


def test_one_slow_container_does_not_change_the_verdict() -> None:
    slow, same = {CANDIDATE: Drawn(0.2, seed=1), BASELINE: fast(seed=2)}, {CANDIDATE: fast(seed=3), BASELINE: fast()}
    gate = compare_releases(arms(), QUICK, open_containers=opening(slow, same))
    assert gate.verdict == "passed"


def test_a_slowdown_in_only_one_of_two_runs_is_inconclusive() -> None:
    slow, same = {CANDIDATE: Drawn(0.11, seed=1), BASELINE: fast(seed=2)}, {CANDIDATE: fast(seed=3), BASELINE: fast()}
    gate = compare_releases(arms(), QUICK, open_containers=opening(*[slow] * 10, same))
    assert gate.verdict == "inconclusive"
    assert "seen in one of two runs: +" in next(finding.note for finding in gate.findings if finding.metric == "p50")


def test_an_injected_slowdown_is_detected() -> None:
    gate = judged(fast(seed=1), fast(seed=2), options(slower=0.1))
    assert (gate.verdict, gate.slower) == ("regressed", 0.1)


def test_small_losses_that_add_up_regress_against_the_anchor() -> None:
    three = {**arms(), ANCHOR: Arm("edge-net:0", 100, "d" * 64, "net", "0", "c" * 64)}
    run = {CANDIDATE: Drawn(0.111, seed=1), BASELINE: Drawn(0.110, seed=2), ANCHOR: fast(seed=3)}
    gate = compare_releases(three, QUICK, open_containers=opening(run))
    assert gate.verdict == "regressed"
    assert {finding.against for finding in gate.findings if finding.verdict == "regressed"} == {ANCHOR}
    assert "than the anchor" in gate.reason


def test_a_learned_noise_floor_widens_the_margin() -> None:
    slower = Drawn(0.11, seed=1), fast(seed=2)
    wide = dict.fromkeys(("p50", "p90", "p99", "throughput"), 0.2)
    gate = judged(*slower, options(noise_floors=lambda *known: wide if known == (DEVICE, 1, "fp32") else {}))
    assert (gate.verdict, gate.floors) == ("passed", wide)
    assert judged(*slower, options(budgets=wide)).verdict == "passed"


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ({"device": msgspec.structs.replace(DEVICE, cpus_allowed=99)}, "number of usable CPUs: 99 against"),
        ({"device": msgspec.structs.replace(DEVICE, cpu_quota=0.5)}, "CPU quota: 0.5 against"),
        ({"engine": "drawn 2"}, "engine: drawn 2 against drawn 1; to compare them anyway: --allow-difference=engine"),
        ({"lost": 1}, "the candidate answered 7 of 8 requests"),
        (
            {"clock": 0.5, "median_ms": 1.0},
            r"^candidate: \d+ % of wall time is not accounted for by its reported lat",
        ),
        ({"clock": 20.0, "median_ms": 1.0}, r"^candidate: its clock is wrong: it reported"),
    ],
)
def test_runs_that_cannot_be_compared_get_the_reason_and_no_findings(candidate: dict[str, Any], reason: str) -> None:
    gate = judged(Drawn(**{"median_ms": 0.1, **candidate}), fast(seed=2))
    assert gate.verdict == "not comparable"
    assert re.search(reason, gate.reason)
    assert not gate.findings


def test_another_engine_passes_when_the_difference_is_allowed() -> None:
    gate = judged(fast(seed=1, engine="drawn 2"), fast(seed=2), options(allowed_differences=("engine",)))
    assert gate.verdict == "passed"


def test_timings_under_an_exhausted_quota_are_inconclusive() -> None:
    gate = judged(fast(seed=1, throttled=3), fast(seed=2))
    assert gate.verdict == "inconclusive"
    assert gate.reason.startswith("the CPU quota was exhausted in 10 of 10 rounds")
    bigger = judged(fast(seed=1, throttled=3, memory=150 << 20), fast(seed=2))
    assert bigger.verdict == "regressed"  # memory needs no clock
    assert not throttling_reason([Round({}, {}, {"candidate": 0})] * 19 + [Round({}, {}, {"candidate": 1})])


def test_more_memory_or_a_bigger_image_is_regressed_without_a_second_run() -> None:
    gate = judged(fast(seed=1, memory=150 << 20), fast(seed=2))
    assert (gate.verdict, gate.confirming) == ("regressed", ())
    assert gate.reason == "memory is 50.0 % worse than the baseline; the budget is 10.0 %"


def test_more_energy_is_a_regression_where_the_device_measures_it() -> None:
    gate = judged(fast(seed=1, joules=0.12), fast(seed=2, joules=0.1))
    assert gate.verdict == "regressed"
    (energy,) = [finding for finding in gate.findings if finding.metric == "energy"]
    assert energy.change == pytest.approx(0.2, abs=0.02)
    unmeasured = judged(fast(seed=1), fast(seed=2))
    (energy,) = [finding for finding in unmeasured.findings if finding.metric == "energy"]
    assert (unmeasured.verdict, energy.verdict, energy.note) == ("passed", "", "cannot be read here")


def test_lost_accuracy_is_tested_image_by_image() -> None:
    gate = judged(fast(seed=1, right=(False,) * 20 + (True,) * 180), fast(seed=2))
    assert gate.verdict == "regressed"
    assert "accuracy is 10.0 points worse" in gate.reason


def test_without_labels_only_answers_are_compared_and_the_verdict_says_so() -> None:
    gate = judged(fast(seed=1, right=()), fast(seed=2, right=()))
    assert (gate.verdict, gate.reason) == (
        "passed",
        "no metric regressed beyond its budget; accuracy is not known: only answers were compared",
    )
    by_metric = {finding.metric: finding for finding in gate.findings}
    assert (by_metric["accuracy"].verdict, by_metric["answers"].verdict) == ("", "passed")
    assert by_metric["accuracy"].note == "not known: no labelled images in both bundles"
    assert "answers" not in {finding.metric for finding in judged(fast(seed=1), fast(seed=2)).findings}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"answers": (3,) * 13 + (4,) * 3},
            "answers: 3 of 16 golden images get another answer; without labels",
        ),
        ({"inputs": "other"}, "answers: the bundles hold different golden images"),
        ({"answers": ()}, "answers: a container did not report them; rebuild its image: toolchain image"),
    ],
)
def test_other_answers_without_labels_are_no_pass(changes: dict[str, Any], words: str) -> None:
    gate = judged(fast(seed=1, right=(), **changes), fast(seed=2, right=()))
    assert gate.verdict == "inconclusive"
    assert words in gate.reason


def test_an_interrupted_gate_resumes_with_its_rounds() -> None:
    progress = GateProgress()

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    run = {CANDIDATE: fast(seed=1), BASELINE: fast(seed=2)}
    with pytest.raises(KeyboardInterrupt), calling(stop):
        compare_releases(arms(), QUICK, progress, opening(run))
    assert len(progress.rounds) == 10
    gate = compare_releases(arms(), QUICK, progress, opening(run))
    assert gate.verdict == "passed"
    assert len(gate.rounds) == 14
