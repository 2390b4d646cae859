import re
from typing import Any

import msgspec
import pytest

from deploy.gate.gate import Arm, GateOptions, GateProgress, compare_releases, throttling_reason
from tests.deploy.players import CLOCK, DEVICE, Drawn, arms, opening
from tests.messages import calling
from toolchain.records.gate import ANCHOR, BASELINE, CANDIDATE, Gate, Round


def terms(**changes: Any) -> GateOptions:
    return GateOptions(**{"threads": 1, "minutes": 1, **changes})


QUICK = terms()


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.gate.rounds.SLICE_S", 0.0)
    monkeypatch.setattr("deploy.gate.rounds.ROUND_S", 0.25)
    monkeypatch.setattr("deploy.gate.rounds.perf_counter", CLOCK)


def judged(candidate: Drawn, baseline: Drawn, terms: GateOptions = QUICK) -> Gate:
    run = {CANDIDATE: candidate, BASELINE: baseline}
    return compare_releases(arms(), terms, open_containers=opening(run))


def fast(**changes: Any) -> Drawn:
    return Drawn(0.1, **changes)


def test_an_equal_release_passes_after_the_fewest_rounds_and_says_how_the_interval_narrows(
    messages: list[str],
) -> None:
    found = judged(fast(seed=1), fast(seed=2))
    assert (found.verdict, len(found.rounds), found.confirming) == ("passed", 10, ())
    assert messages[0].startswith("  10 rounds: p50 ")
    assert found.sides[CANDIDATE].accuracy == 1.0
    assert found.sides[BASELINE].peak_memory_bytes == 100 << 20
    assert found.fingerprint == DEVICE


def test_a_slower_release_is_regressed_and_only_after_a_second_run(messages: list[str]) -> None:
    found = judged(Drawn(0.11, seed=1), fast(seed=2))
    assert found.verdict == "regressed"
    assert len(found.confirming) >= 10
    assert any("measuring again" in line for line in messages)
    p50 = next(one for one in found.findings if one.metric == "p50")
    assert p50.note == "seen in both runs"
    assert p50.change == pytest.approx(0.10, abs=0.02)


def test_what_is_slow_in_one_pair_of_containers_sways_nothing() -> None:
    slow, same = {CANDIDATE: Drawn(0.2, seed=1), BASELINE: fast(seed=2)}, {CANDIDATE: fast(seed=3), BASELINE: fast()}
    found = compare_releases(arms(), QUICK, open_containers=opening(slow, same))
    assert found.verdict == "passed"


def test_what_is_slow_in_one_of_two_runs_is_no_regression() -> None:
    slow, same = {CANDIDATE: Drawn(0.11, seed=1), BASELINE: fast(seed=2)}, {CANDIDATE: fast(seed=3), BASELINE: fast()}
    found = compare_releases(arms(), QUICK, open_containers=opening(*[slow] * 10, same))
    assert found.verdict == "inconclusive"
    assert "seen in one of two runs: +" in next(one.note for one in found.findings if one.metric == "p50")


def test_a_slowdown_on_purpose_is_seen() -> None:
    found = judged(fast(seed=1), fast(seed=2), terms(slower=0.1))
    assert (found.verdict, found.slower) == ("regressed", 0.1)


def test_small_losses_must_not_add_up_behind_the_anchor() -> None:
    three = {**arms(), ANCHOR: Arm("edge-net:0", 100, "d" * 64, "net", "0", "c" * 64)}
    run = {CANDIDATE: Drawn(0.111, seed=1), BASELINE: Drawn(0.110, seed=2), ANCHOR: fast(seed=3)}
    found = compare_releases(three, QUICK, open_containers=opening(run))
    assert found.verdict == "regressed"
    assert {one.against for one in found.findings if one.verdict == "regressed"} == {ANCHOR}
    assert "than the anchor" in found.reason


def test_noise_that_was_learned_widens_the_margin() -> None:
    slower = Drawn(0.11, seed=1), fast(seed=2)
    wide = dict.fromkeys(("p50", "p90", "p99", "throughput"), 0.2)
    found = judged(*slower, terms(floors=lambda *known: wide if known == (DEVICE, 1, "fp32") else {}))
    assert (found.verdict, found.floors) == ("passed", wide)
    assert judged(*slower, terms(budgets=wide)).verdict == "passed"


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        ({"device": msgspec.structs.replace(DEVICE, cpus_allowed=99)}, "number of CPUs that it may use: 99 against"),
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
def test_what_cannot_be_compared_is_said_and_not_judged(candidate: dict[str, Any], reason: str) -> None:
    found = judged(Drawn(**{"median_ms": 0.1, **candidate}), fast(seed=2))
    assert found.verdict == "not comparable"
    assert re.search(reason, found.reason)
    assert not found.findings


def test_an_engine_may_change_when_it_is_said_to() -> None:
    found = judged(fast(seed=1, engine="drawn 2"), fast(seed=2), terms(across=("engine",)))
    assert found.verdict == "passed"


def test_times_measured_under_a_quota_that_was_used_up_decide_nothing() -> None:
    found = judged(fast(seed=1, throttled=3), fast(seed=2))
    assert found.verdict == "inconclusive"
    assert found.reason.startswith("the CPU quota was used up in 10 of 10 rounds")
    bigger = judged(fast(seed=1, throttled=3, memory=150 << 20), fast(seed=2))
    assert bigger.verdict == "regressed"  # memory needs no clock
    assert not throttling_reason([Round({}, {}, {"candidate": 0})] * 19 + [Round({}, {}, {"candidate": 1})])


def test_more_memory_or_a_bigger_image_is_regressed_without_a_second_run() -> None:
    found = judged(fast(seed=1, memory=150 << 20), fast(seed=2))
    assert (found.verdict, found.confirming) == ("regressed", ())
    assert found.reason == "memory is 50.0 % worse than the baseline; the budget is 10.0 %"


def test_a_release_that_takes_more_energy_is_regressed_where_the_device_tells() -> None:
    found = judged(fast(seed=1, joules=0.12), fast(seed=2, joules=0.1))
    assert found.verdict == "regressed"
    (energy,) = [one for one in found.findings if one.metric == "energy"]
    assert energy.change == pytest.approx(0.2, abs=0.02)
    untold = judged(fast(seed=1), fast(seed=2))
    (energy,) = [one for one in untold.findings if one.metric == "energy"]
    assert (untold.verdict, energy.verdict, energy.note) == ("passed", "", "not readable here")


def test_lost_pictures_are_counted_one_by_one() -> None:
    found = judged(fast(seed=1, right=(False,) * 20 + (True,) * 180), fast(seed=2))
    assert found.verdict == "regressed"
    assert "accuracy is 10.0 points worse" in found.reason


def test_whoever_interrupts_finds_what_was_played() -> None:
    kept = GateProgress()

    def stop(_: str) -> None:
        raise KeyboardInterrupt

    run = {CANDIDATE: fast(seed=1), BASELINE: fast(seed=2)}
    with pytest.raises(KeyboardInterrupt), calling(stop):
        compare_releases(arms(), QUICK, kept, opening(run))
    assert len(kept.rounds) == 10
    found = compare_releases(arms(), QUICK, kept, opening(run))
    assert found.verdict == "passed"
    assert len(found.rounds) == 14
