"""Measures how often the gate is wrong on this device: a release against itself, unchanged and slowed on purpose.

Unchanged, every *regressed* is a false alarm; slowed by 5 %, every *passed* is a miss. Each gate runs in new
containers, as usual. The differences between unchanged releases are recorded: later gates allow for that noise.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgspec

from deploy.gate.gate import Arm, GateOptions, compare_releases
from deploy.gate.run import progress_path, read_noise_floors
from deploy.gate.statistics import median, wilson
from deploy.ledger.ledger import Ledger
from toolchain.errors import RecordError, UsageError
from toolchain.progress import quiet
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import BASELINE, CANDIDATE
from toolchain.records.storage import encode_record, write_atomically

logger = logging.getLogger(__name__)


SLOWER = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)


class Trial(msgspec.Struct, frozen=True):
    """One gate of the self-test. slower: the injected slowdown, as a share."""

    slower: float
    verdict: str
    reason: str
    rounds: int
    seconds: float


class Rate(msgspec.Struct, frozen=True):
    """All gates of one slowdown. regressed: their share (the false-alarm rate for slower = 0, otherwise the power) with
    its 95 % interval (Wilson). rounds, seconds: medians over the gates."""

    slower: float
    gates: int
    passed: float
    inconclusive: float
    regressed: float
    low: float
    high: float
    rounds: float
    seconds: float


class _SelfTestProgress(msgspec.Struct):
    """floors: the noise floors before the first gate, so that no gate of the self-test allows for another's noise."""

    floors: dict[str, float] | None = None
    trials: list[Trial] = []


def run_selftest(
    release: Arm,
    slower: Sequence[float],
    gates: int,
    options: GateOptions,
    ledger: Ledger,
    on: str | None = None,
) -> tuple[Trial, ...]:
    """Run `gates` gates for each slowdown in `slower`, in turn; gates of an interrupted self-test are not repeated."""
    if gates < 1:
        raise UsageError(f"--gates={gates}: expected 1 or more")
    if not slower or min(slower) < 0 or max(slower) > 1:
        raise UsageError(f"--slower={','.join(f'{share:g}' for share in slower)}: expected shares of 0 to 1")
    path = progress_path(("selftest", release, slower, options.minutes), on)
    progress = _read_progress(path)
    learned = partial(_noise_floors, progress, ledger, release)
    wanted = [share for _ in range(gates) for share in slower]
    for number, share in enumerate(wanted[len(progress.trials) :], len(progress.trials) + 1):
        slowed = replace(options, slower=share, noise_floors=learned)
        with quiet("deploy.gate"):
            gate = compare_releases({CANDIDATE: release, BASELINE: release}, slowed)
        ledger.record_gate(gate)
        count = len(gate.rounds) + len(gate.confirming)
        progress.trials.append(Trial(share, gate.verdict, gate.reason, count, gate.seconds))
        write_atomically(path, encode_record(progress))
        took = f"{count} rounds, {gate.seconds:.0f} s"
        logger.info(f"gate {number} of {len(wanted)}: {share:.0%} slower: {gate.verdict} after {took}")
    path.unlink(missing_ok=True)
    return tuple(progress.trials[: len(wanted)])


def _noise_floors(
    progress: _SelfTestProgress, ledger: Ledger, release: Arm, device: Fingerprint, threads: int, precision: str
) -> dict[str, float]:
    if progress.floors is None:
        progress.floors = read_noise_floors(ledger, release, device, threads, precision)
    return progress.floors


def parse_slowdowns(text: str) -> tuple[float, ...]:
    """`0,0.05` as numbers; UsageError."""
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError as error:
        raise UsageError(f"--slower={text}: expected shares separated by commas, such as 0,0.05,0.1") from error


def error_rates(trials: Sequence[Trial]) -> Iterator[Rate]:
    """One Rate per slowdown, in ascending order."""
    for slower in sorted({trial.slower for trial in trials}):
        same = [trial for trial in trials if trial.slower == slower]
        counts = {verdict: sum(trial.verdict == verdict for trial in same) for verdict in ("passed", "regressed")}
        low, high = wilson(counts["regressed"], len(same))
        passed, regressed = (counts[verdict] / len(same) for verdict in ("passed", "regressed"))
        yield Rate(
            slower,
            len(same),
            passed,
            1 - passed - regressed,
            regressed,
            low,
            high,
            median([trial.rounds for trial in same]),
            median([trial.seconds for trial in same]),
        )


def _read_progress(path: Path) -> _SelfTestProgress:
    if not path.is_file():
        return _SelfTestProgress()
    try:
        return msgspec.json.decode(path.read_bytes(), type=_SelfTestProgress)
    except msgspec.MsgspecError as error:
        raise RecordError(
            f"{path}: not the gates of a self-test ({error}); remove it and run the self-test again"
        ) from error
