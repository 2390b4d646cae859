"""The gate before a container is replaced on this machine: the image that is to serve against the one that does.

Knows images; the containers are started and switched by deploy/containers/replace.py, which calls this in between.
"""

import logging
from functools import partial

from deploy.containers.replace import ReplacementGate
from deploy.gate.comparability import ENGINE
from deploy.gate.gate import MINUTES, Arm
from deploy.gate.releases import read_arm
from deploy.gate.run import check_minutes, gate_arms
from deploy.ledger.ledger import Ledger
from toolchain.errors import DeviceError, DockerError
from toolchain.records.gate import BASELINE, CANDIDATE

logger = logging.getLogger(__name__)


def replacement_gate(skip: bool, minutes: float = MINUTES) -> ReplacementGate | None:
    """What replace.py calls; None where the user skips the gate. UsageError for impossible minutes."""
    check_minutes("--gate-minutes", minutes)
    return None if skip else partial(gate_replacement, minutes=minutes)


def gate_replacement(image: str, serving: str, minutes: float = MINUTES) -> None:
    """DeviceError when the gate does not pass `image` against the image with the id `serving`. The same release, and
    another model, need no gate: nothing can have become slower."""
    mine, theirs = read_arm(image), _read_serving(serving)
    if mine.bundle == theirs.bundle:
        logger.info(f"gate: not needed, {mine.name} {mine.release} is what serves")
        return
    if mine.name != theirs.name:
        logger.info(f"gate: not possible, {theirs.name} serves and {mine.name} is another model")
        return
    logger.info(f"gate: {mine.name} {mine.release} against {theirs.release}, which serves; to skip it: --skip-gate")
    with Ledger() as ledger:
        # what serves is replaced with its engine: another one is part of the question, not a reason against it
        result = gate_arms({CANDIDATE: mine, BASELINE: theirs}, ledger, minutes, (ENGINE,))
    if result.verdict == "passed":
        return
    more = "; more time may decide: --gate-minutes=15" if result.verdict == "inconclusive" else ""
    raise DeviceError(
        f"{mine.name} {mine.release} does not replace {theirs.release}: the gate's verdict is {result.verdict}: "
        f"{result.reason}; {theirs.release} still serves{more}; to replace it all the same: --skip-gate"
    )


def _read_serving(image: str) -> Arm:
    try:
        return read_arm(image)
    except DockerError as error:
        raise DockerError(
            f"the release that serves cannot be gated against ({error}); without that: --skip-gate"
        ) from error
