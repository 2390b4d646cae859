"""How often is the gate wrong on this very device? It judges a release against itself, as it is and slowed on purpose.

As it is, every *regressed* is a false alarm; slowed by 5 %, every *passed* is a miss. Each gate has containers of its
own, as a real one has. What the releases as they are differ by is recorded, and is the noise that later gates allow.
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
    """One gate: how much slower its candidate was made, and what it said."""

    slower: float
    verdict: str
    reason: str
    rounds: int
    seconds: float


class Rate(msgspec.Struct, frozen=True):
    """All gates of one slowdown. regressed: their share, which is the false-alarm rate where slower is 0 and the power
    elsewhere, with its 95 % interval (Wilson). rounds, seconds: medians of a gate."""

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
    """floors: what was learned before the first gate, so that no gate of the self-test allows for another's noise."""

    floors: dict[str, float] | None = None
    trials: list[Trial] = []


def run_selftest(
    release: Arm,
    slower: Sequence[float],
    gates: int,
    terms: GateOptions,
    ledger: Ledger,
    on: str | None = None,
) -> tuple[Trial, ...]:
    """`gates` gates for each of `slower`, in turn; those that an interrupted self-test judged are not judged again."""
    if gates < 1:
        raise UsageError(f"--gates={gates}: expected 1 or more")
    if not slower or min(slower) < 0 or max(slower) > 1:
        raise UsageError(f"--slower={','.join(f'{one:g}' for one in slower)}: expected shares of 0 to 1")
    path = progress_path(("selftest", release, slower, terms.minutes), on)
    progress = _read_progress(path)
    learned = partial(_noise_floors, progress, ledger, release)
    wanted = [share for _ in range(gates) for share in slower]
    for number, share in enumerate(wanted[len(progress.trials) :], len(progress.trials) + 1):
        asked = replace(terms, slower=share, floors=learned)
        with quiet("deploy.gate"):
            found = compare_releases({CANDIDATE: release, BASELINE: release}, asked)
        ledger.record_gate(found)
        played = len(found.rounds) + len(found.confirming)
        progress.trials.append(Trial(share, found.verdict, found.reason, played, found.seconds))
        write_atomically(path, encode_record(progress))
        took = f"{played} rounds, {found.seconds:.0f} s"
        logger.info(f"gate {number} of {len(wanted)}: {share:.0%} slower: {found.verdict} after {took}")
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
        raise UsageError(f"--slower={text}: expected shares with commas between them, as 0,0.05,0.1") from error


def error_rates(trials: Sequence[Trial]) -> Iterator[Rate]:
    """By slowdown, rising."""
    for slower in sorted({one.slower for one in trials}):
        some = [one for one in trials if one.slower == slower]
        counts = {verdict: sum(one.verdict == verdict for one in some) for verdict in ("passed", "regressed")}
        low, high = wilson(counts["regressed"], len(some))
        passed, regressed = (counts[verdict] / len(some) for verdict in ("passed", "regressed"))
        yield Rate(
            slower,
            len(some),
            passed,
            1 - passed - regressed,
            regressed,
            low,
            high,
            median([one.rounds for one in some]),
            median([one.seconds for one in some]),
        )


def _read_progress(path: Path) -> _SelfTestProgress:
    if not path.is_file():
        return _SelfTestProgress()
    try:
        return msgspec.json.decode(path.read_bytes(), type=_SelfTestProgress)
    except msgspec.MsgspecError as error:
        raise RecordError(f"{path}: not the gates of a self-test ({error}); remove it and begin again") from error
