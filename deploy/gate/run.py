"""`toolchain gate`: resolves the arms, reads the noise of this device from the ledger, runs the gate and records it.

The rounds of an interrupted gate are kept in the state directory, and the next run of the same command resumes there.
"""

import logging
import os
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec

from deploy.gate.comparability import check_allowed_differences
from deploy.gate.gate import MINUTES, Arm, GateOptions, GateProgress, compare_releases
from deploy.gate.releases import resolve_arms
from deploy.gate.statistics import noise_floor
from deploy.gate.verdict import BUDGETS, METRICS
from deploy.ledger.ledger import Ledger
from deploy.runtime.device.probe import fingerprint
from toolchain.errors import RecordError, UsageError
from toolchain.paths import home
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import CANDIDATE, Gate
from toolchain.records.storage import encode_record, write_atomically

logger = logging.getLogger(__name__)


class GateRequest(msgspec.Struct, frozen=True):
    """What `toolchain gate` was asked for; None: as it is by itself. budget: of every timed figure, as a share; on: the
    machine whose engine is spoken to (remote.py)."""

    candidate: str
    against: str | None = None
    anchor: str | None = None
    minutes: float = MINUTES
    budget: float | None = None
    across: tuple[str, ...] = ()
    on: str | None = None


def run_gate(request: GateRequest, ledger: Ledger) -> Gate | None:
    """The recorded gate; None for a first release, which has nothing to be compared with."""
    if request.minutes <= 0:
        raise UsageError(f"--minutes={request.minutes:g}: expected more than 0")
    if request.budget is not None and not 0 < request.budget < 1:
        raise UsageError(f"--budget={request.budget:g}: expected a share between 0 and 1, such as 0.03 for 3 %")
    across = check_allowed_differences(request.across)
    found = resolve_arms(request.candidate, request.against, request.anchor, ledger)
    if found is None:
        return None
    logger.info(
        "gate: " + " against ".join(f"{role} {one.name} {one.release} ({one.image})" for role, one in found.items())
    )
    budgets = BUDGETS if request.budget is None else {**BUDGETS, **{one.name: request.budget for one in METRICS}}
    terms = GateOptions(None, request.minutes, budgets, across, partial(read_noise_floors, ledger, found[CANDIDATE]))
    result = _run_resumable(found, terms, request.on)
    ledger.record_gate(result)
    return result


def read_noise_floors(
    ledger: Ledger, candidate: Arm, device: Fingerprint, engine_threads: int, precision: str
) -> dict[str, float]:
    """How far equal releases of this model lie apart on this device, by metric, where enough gates of a release against
    itself have told."""
    effects = ledger.gate_noise(candidate.name, precision, device, engine_threads)
    learned = {metric: noise_floor(found) for metric, found in effects.items()}
    return {metric: floor for metric, floor in learned.items() if floor is not None}


def _run_resumable(found: dict[str, Arm], terms: GateOptions, on: str | None) -> Gate:
    path = progress_path(found, on)
    progress = _read_progress(path)
    if progress.rounds:
        logger.info(f"gate: resuming after {progress.count} rounds of an interrupted gate")
    try:
        result = compare_releases(found, terms, progress)
    except BaseException:
        if progress.rounds:
            write_atomically(path, encode_record(progress))
            logger.info(f"gate: {progress.count} rounds are kept; run the same command to resume")
        raise
    path.unlink(missing_ok=True)
    return result


def progress_path(who: object, on: str | None) -> Path:
    """A file of its own for who plays, and on which machine."""
    device: object = on or (fingerprint(), os.environ.get("DOCKER_HOST", ""))
    return home() / "gates" / f"{sha256(encode_record((who, device))).hexdigest()[:16]}.json"


def _read_progress(path: Path) -> GateProgress:
    if not path.is_file():
        return GateProgress()
    try:
        return msgspec.json.decode(path.read_bytes(), type=GateProgress)
    except msgspec.MsgspecError as error:
        raise RecordError(f"{path}: not the rounds of a gate ({error}); remove it and run the gate again") from error
