"""`toolchain gate`: resolves the arms, reads the noise of this device from the ledger, runs the gate and records it.

The rounds of an interrupted gate are kept in the state directory, and the next run of the same command resumes there.
"""

import logging
import os
from collections.abc import Mapping
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
    """The options of `toolchain gate`; None: the default. budget: of every timed metric, as a share. on: the machine
    whose Docker Engine is used (deploy/docker/ssh.py)."""

    candidate: str
    against: str | None = None
    anchor: str | None = None
    minutes: float = MINUTES
    budget: float | None = None
    allowed_differences: tuple[str, ...] = ()
    on: str | None = None


def run_gate(request: GateRequest, ledger: Ledger) -> Gate | None:
    """The recorded gate; None for a first release, which has nothing to be compared with."""
    check_minutes("--minutes", request.minutes)
    if request.budget is not None and not 0 < request.budget < 1:
        raise UsageError(f"--budget={request.budget:g}: expected a share between 0 and 1, such as 0.03 for 3 %")
    allowed_differences = check_allowed_differences(request.allowed_differences)
    arms = resolve_arms(request.candidate, request.against, request.anchor, ledger)
    if arms is None:
        return None
    logger.info(
        "gate: " + " against ".join(f"{role} {arm.name} {arm.release} ({arm.image})" for role, arm in arms.items())
    )
    budgets = BUDGETS if request.budget is None else {**BUDGETS, **{metric.name: request.budget for metric in METRICS}}
    return gate_arms(arms, ledger, request.minutes, allowed_differences, budgets, request.on)


def check_minutes(flag: str, minutes: float) -> None:
    if minutes <= 0:
        raise UsageError(f"{flag}={minutes:g}: expected more than 0")


def gate_arms(
    arms: dict[str, Arm],
    ledger: Ledger,
    minutes: float,
    allowed_differences: tuple[str, ...] = (),
    budgets: Mapping[str, float] = BUDGETS,
    on: str | None = None,
) -> Gate:
    """The recorded gate of these arms."""
    noise_floors = partial(read_noise_floors, ledger, arms[CANDIDATE])
    result = _run_resumable(arms, GateOptions(None, minutes, budgets, allowed_differences, noise_floors), on)
    ledger.record_gate(result)
    return result


def read_noise_floors(
    ledger: Ledger, candidate: Arm, device: Fingerprint, engine_threads: int, precision: str
) -> dict[str, float]:
    """How much equal releases of this model differ on this device, by metric, where the ledger has enough gates of a
    release against itself."""
    effects = ledger.gate_noise(candidate.name, precision, device, engine_threads)
    learned = {metric: noise_floor(differences) for metric, differences in effects.items()}
    return {metric: floor for metric, floor in learned.items() if floor is not None}


def _run_resumable(arms: dict[str, Arm], options: GateOptions, on: str | None) -> Gate:
    path = progress_path(arms, on)
    progress = _read_progress(path)
    if progress.rounds:
        logger.info(f"gate: resuming after {progress.count} rounds of an interrupted gate")
    try:
        result = compare_releases(arms, options, progress)
    except BaseException:
        if progress.rounds:
            write_atomically(path, encode_record(progress))
            logger.info(f"gate: {progress.count} rounds are kept; run the same command to resume")
        raise
    path.unlink(missing_ok=True)
    return result


def progress_path(who: object, on: str | None) -> Path:
    """The progress file of this comparison (`who`) on this machine."""
    device: object = on or (fingerprint(), os.environ.get("DOCKER_HOST", ""))
    return home() / "gates" / f"{sha256(encode_record((who, device))).hexdigest()[:16]}.json"


def _read_progress(path: Path) -> GateProgress:
    if not path.is_file():
        return GateProgress()
    try:
        return msgspec.json.decode(path.read_bytes(), type=GateProgress)
    except msgspec.MsgspecError as error:
        raise RecordError(f"{path}: not the rounds of a gate ({error}); remove it and run the gate again") from error
