"""The gate from the outside: who plays, what the ledger knows of the noise here, the gate itself, and its record.

What an interrupted gate has played is kept in the toolchain's folder and counts when it is run again.
"""

import logging
import os
from functools import partial
from hashlib import sha256
from pathlib import Path

import msgspec

from deploy.gate.comparability import checked_across
from deploy.gate.gate import MINUTES, Contestant, Kept, Terms, gate
from deploy.gate.releases import contestants
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


class Asked(msgspec.Struct, frozen=True):
    """What `toolchain gate` was asked for; None: as it is by itself. budget: of every timed figure, as a share; on: the
    machine whose engine is spoken to (remote.py)."""

    candidate: str
    against: str | None = None
    anchor: str | None = None
    minutes: float = MINUTES
    budget: float | None = None
    across: tuple[str, ...] = ()
    on: str | None = None


def gated(asked: Asked, ledger: Ledger) -> Gate | None:
    """The gate, recorded; None for a first release, with nothing to hold it against."""
    if asked.minutes <= 0:
        raise UsageError(f"--minutes={asked.minutes:g}: expected more than 0")
    if asked.budget is not None and not 0 < asked.budget < 1:
        raise UsageError(f"--budget={asked.budget:g}: expected a share between 0 and 1, such as 0.03 for 3 %")
    across = checked_across(asked.across)
    found = contestants(asked.candidate, asked.against, asked.anchor, ledger)
    if found is None:
        return None
    logger.info(
        "gate: " + " against ".join(f"{role} {one.name} {one.release} ({one.image})" for role, one in found.items())
    )
    budgets = BUDGETS if asked.budget is None else {**BUDGETS, **{one.name: asked.budget for one in METRICS}}
    terms = Terms(None, asked.minutes, budgets, across, partial(floors, ledger, found[CANDIDATE]))
    judged = _kept_while_played(found, terms, asked.on)
    ledger.record_gate(judged)
    return judged


def floors(
    ledger: Ledger, candidate: Contestant, device: Fingerprint, engine_threads: int, precision: str
) -> dict[str, float]:
    """How far equal releases of this model lie apart on this device, by metric, where enough gates of a release against
    itself have told."""
    effects = ledger.gate_noise(candidate.name, precision, device, engine_threads)
    learned = {metric: noise_floor(found) for metric, found in effects.items()}
    return {metric: floor for metric, floor in learned.items() if floor is not None}


def _kept_while_played(found: dict[str, Contestant], terms: Terms, on: str | None) -> Gate:
    path = place_of(found, on)
    kept = _read(path)
    if kept.rounds:
        logger.info(
            f"gate: goes on after {len(kept.rounds) + len(kept.confirming)} rounds that an interrupted one played"
        )
    try:
        judged = gate(found, terms, kept)
    except BaseException:
        if kept.rounds:
            write_atomically(path, encode_record(kept))
            logger.info(
                f"gate: {len(kept.rounds) + len(kept.confirming)} rounds are kept; run the same command to go on"
            )
        raise
    path.unlink(missing_ok=True)
    return judged


def place_of(who: object, on: str | None) -> Path:
    """A file of its own for who plays, and on which machine."""
    device: object = on or (fingerprint(), os.environ.get("DOCKER_HOST", ""))
    return home() / "gates" / f"{sha256(encode_record((who, device))).hexdigest()[:16]}.json"


def _read(path: Path) -> Kept:
    if not path.is_file():
        return Kept()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Kept)
    except msgspec.MsgspecError as error:
        raise RecordError(f"{path}: not the rounds of a gate ({error}); remove it and run the gate again") from error
