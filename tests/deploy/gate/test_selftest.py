from pathlib import Path

import pytest

from deploy.gate.gate import Arm, GateOptions, compare_releases
from deploy.gate.selftest import Trial, error_rates, parse_slowdowns, run_selftest
from deploy.ledger.ledger import Ledger
from tests.deploy.runners import CLOCK, DEVICE, Drawn, opening
from tests.messages import calling
from toolchain.errors import UsageError
from toolchain.records.gate import BASELINE, CANDIDATE
from toolchain.views.gate import rates_page

NET = Arm("edge-net:1", 100, "b" * 64, "net", "1", "c" * 64)
QUICK = GateOptions(threads=1, minutes=1)


@pytest.fixture(autouse=True)
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Gates whose containers are drawn by a seed."""
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("deploy.gate.rounds.SLICE_S", 0.0)
    monkeypatch.setattr("deploy.gate.rounds.ROUND_S", 0.25)
    monkeypatch.setattr("deploy.gate.rounds.perf_counter", CLOCK)
    runners = {CANDIDATE: Drawn(0.1, seed=1), BASELINE: Drawn(0.1, seed=2)}
    monkeypatch.setattr(
        "deploy.gate.selftest.compare_releases", lambda *args: compare_releases(*args, open_containers=opening(runners))
    )


def test_a_release_passes_against_itself_and_regresses_when_slowed(tmp_path: Path, messages: list[str]) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        trials = run_selftest(NET, (0.0, 0.1), 3, QUICK, ledger)
        noise = ledger.gate_noise("net", "fp32", DEVICE, 1)
    assert [(trial.slower, trial.verdict) for trial in trials] == [(0.0, "passed"), (0.1, "regressed")] * 3
    assert len(noise["p50"]) == 3  # only of the gates without a slowdown
    assert messages[1].startswith("gate 2 of 6: 10% slower: regressed after ")
    calm, slowed = error_rates(trials)
    assert (calm.gates, calm.passed, calm.regressed, calm.low) == (3, 1.0, 0.0, pytest.approx(0.0, abs=1e-9))
    assert (slowed.regressed, slowed.high) == (1.0, pytest.approx(1.0))
    assert "unchanged (false alarms)" in rates_page([calm, slowed])


def test_an_interrupted_self_test_resumes(tmp_path: Path) -> None:
    lines: list[str] = []

    def stop(text: str) -> None:
        lines.append(text)
        if len(lines) == 2:
            raise KeyboardInterrupt

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        with pytest.raises(KeyboardInterrupt), calling(stop):
            run_selftest(NET, (0.0, 0.1), 2, QUICK, ledger)
        with calling(lines.append):
            trials = run_selftest(NET, (0.0, 0.1), 2, QUICK, ledger)
    assert [text.partition(":")[0] for text in lines] == [f"gate {number} of 4" for number in (1, 2, 3, 4)]
    assert len(trials) == 4


def test_rates_count_not_comparable_gates_as_inconclusive() -> None:
    trials = [Trial(0.0, verdict, "", 10, 9.0) for verdict in ("passed", "passed", "inconclusive", "not comparable")]
    (rate,) = error_rates(trials)
    assert (rate.passed, rate.inconclusive, rate.regressed) == (0.5, 0.5, 0.0)


def test_impossible_slowdowns_are_refused(tmp_path: Path) -> None:
    assert parse_slowdowns("0,0.05") == (0.0, 0.05)
    with pytest.raises(UsageError, match=r"--slower=much: expected shares separated by commas, such as 0,0\.05,0\.1$"):
        parse_slowdowns("much")
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for slower, gates, error in (((2.0,), 1, "--slower=2: expected shares of 0 to 1"), ((0.0,), 0, "--gates=0")):
            with pytest.raises(UsageError, match=error):
                run_selftest(NET, slower, gates, QUICK, ledger)
