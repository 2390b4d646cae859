"""The rollout of a release to one server: lock, clean up, check, send, verify, start next to the active release, wait
until certified and healthy, gate against the active release, switch, drain the old one, write the audit.

The active release is not touched before the new one has passed the gate on that device. If anything fails before the
switch, the new release is removed; after it, the server is switched back. A killed run leaves at most a lock and a
second container, which the next run cleans up. The file `live` on the server is the only source of truth.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import msgspec

from deploy.servers.server import (
    AuditEntry,
    DamagedSignatureError,
    DowngradeError,
    EdgeServer,
    GateResult,
    LockedError,
    LockHolder,
    ServerState,
    ShipError,
    format_error,
    now,
)
from toolchain.errors import ToolchainError

logger = logging.getLogger(__name__)


RolloutOutcome = Literal["live", "unchanged", "refused", "failed", "locked"]


class RolloutOptions(msgspec.Struct, frozen=True):
    """if_inconclusive: whether a release goes live when the gate is inconclusive; skip_gate: why the gate is skipped,
    "" to run it; action: its name in the audit; allow_downgrade: whether the release may be older than what was shipped
    before."""

    if_inconclusive: Literal["stop", "go"] = "stop"
    skip_gate: str = ""
    action: Literal["ship", "rollback"] = "ship"
    allow_downgrade: bool = False


class RolloutResult(msgspec.Struct, frozen=True):
    """The outcome on one server. before: the release that served at the start; live: the one that serves now, as far as
    known; downgrade_from: the release that was signed after this one and served or was shipped before, "" for none."""

    server: str
    release: str
    outcome: RolloutOutcome
    before: str = ""
    live: str = ""
    sent_bytes: int = 0
    verdict: str = ""
    reason: str = ""
    downgrade_from: str = ""


def roll_out_to_server(server: EdgeServer, release: str, holder: LockHolder, options: RolloutOptions) -> RolloutResult:
    """Bring `release` to `site`, or leave it as it was. Errors on the server are not raised but returned as the
    reason."""
    found = RolloutResult(server.name, release, "failed")
    try:
        with hold_lock(server, holder):
            before = clean_up(server, patient=not options.skip_gate)
            found = msgspec.structs.replace(found, before=before.live, live=before.live)
            return _roll_out(server, release, before, holder, options, found)
    except LockedError as error:
        return msgspec.structs.replace(found, outcome="locked", reason=format_error(error))
    except (ToolchainError, OSError) as error:
        return msgspec.structs.replace(found, reason=format_error(error))


@contextmanager
def hold_lock(server: EdgeServer, holder: LockHolder) -> Iterator[None]:
    """A lock that cannot be released (the link is down) is taken over by the next run, which sees that its holder
    ended."""
    server.lock(holder)
    try:
        yield
    finally:
        with suppress(ToolchainError, OSError):
            server.unlock(holder)


def clean_up(server: EdgeServer, patient: bool) -> ServerState:
    """Clean up after a killed run: remove containers other than the active one. Restart the active one if it is down,
    and wait for it if `patient`, so that the gate has something to compare with."""
    found = server.read_state()
    for release in found.containers:
        if release != found.live:
            logger.info(f"{server.name}: removing {release}, which an interrupted run left")
            server.stop(release)
    if found.live and not found.is_serving:
        logger.info(f"{server.name}: {found.live} should serve but does not: restarting it")
        with suppress(ToolchainError):
            server.start(found.live)
            if patient:
                server.wait_healthy(found.live)
    return server.read_state()


def plan_steps(server: EdgeServer, release: str, options: RolloutOptions) -> list[str]:
    """The steps that roll_out_to_server would take, one a line, as far as can be known beforehand. Changes nothing."""
    before = server.read_state()
    server.check(release)
    if before.live == release and before.is_serving:
        return ["nothing: it is already live"]
    newer = _check_downgrade(server, release, options)
    back = [f"go back from {newer}, which was signed later"] if newer else []
    left = [f"remove {other}, which an interrupted run left" for other in before.containers if other != before.live]
    layers, size = server.missing_layers()
    sent = f"send {layers} layers ({size / 1e6:.1f} MB unpacked)" if layers else "send nothing: its image is there"
    judged = f"gate it against {before.live} there" if before.is_serving else "skip the gate: nothing serves there"
    return [
        "take the lock",
        *back,
        *left,
        sent,
        f"start {release} next to {before.live or 'nothing'} and wait until it is certified there",
        f"skip the gate: {options.skip_gate}" if options.skip_gate and before.is_serving else judged,
        f"switch to {release}",
        *([f"drain and remove {before.live}"] if before.live and before.live != release else []),
        "write the audit, release the lock",
    ]


def _roll_out(
    server: EdgeServer,
    release: str,
    before: ServerState,
    holder: LockHolder,
    options: RolloutOptions,
    found: RolloutResult,
) -> RolloutResult:
    def finish(outcome: RolloutOutcome, reason: str, **more: object) -> RolloutResult:
        if found.downgrade_from:
            reason = f"went back from {found.downgrade_from}, which was signed later; {reason}"
        ended = msgspec.structs.replace(found, outcome=outcome, reason=reason, **more)
        entry = AuditEntry(now(), holder.who, f"{options.action}: {holder.why}", release, outcome, reason)
        try:
            server.append_audit(entry)
        except (ToolchainError, OSError) as error:  # it must not undo the rollout
            logger.warning(f"{server.name}: not in the audit there: {format_error(error)}")
        return ended

    judged = GateResult("first", "nothing served before")
    try:
        server.check(release)
        if before.live == release and before.is_serving:
            return msgspec.structs.replace(found, outcome="unchanged")
        found = msgspec.structs.replace(found, downgrade_from=_check_downgrade(server, release, options))
        found = msgspec.structs.replace(found, sent_bytes=server.send(release))
        server.verify(release)
        logger.info(f"{server.name}: starting {release} next to {before.live or 'nothing'}")
        server.start(release)
        logger.info(f"{server.name}: waiting until {release} is certified there")
        server.wait_healthy(release)
        judged = _run_gate(server, release, before, options)
        found = msgspec.structs.replace(found, verdict=judged.verdict)
        _require_verdict(judged, options)
    except (ToolchainError, OSError) as error:
        _remove_candidate(server, release, before)
        refused = judged.verdict in ("regressed", "inconclusive", "not comparable")
        refused = refused or isinstance(error, DowngradeError)
        return finish("refused" if refused else "failed", format_error(error))
    return _switch(server, release, before, finish, judged)


def _check_downgrade(server: EdgeServer, release: str, options: RolloutOptions) -> str:
    """The newer release that this goes back from, "" for none. DowngradeError where that is not allowed."""
    try:
        newer = server.newer_release(release)
    except DamagedSignatureError as error:
        if not options.allow_downgrade:
            raise
        newer = error.release  # it may have been newer
    if newer and not options.allow_downgrade:
        raise DowngradeError(
            f"{server.name}: {release} was signed before {newer}, which was shipped there; to go back: toolchain "
            "rollback, or --allow-downgrade"
        )
    return newer


def _run_gate(server: EdgeServer, release: str, before: ServerState, options: RolloutOptions) -> GateResult:
    if not before.is_serving:
        return GateResult("first", "nothing served before")
    if options.skip_gate:
        return GateResult("not asked", f"the gate was skipped: {options.skip_gate}")
    logger.info(f"{server.name}: {release} is gated against {before.live} there")
    return server.gate(release, before.live)


def _require_verdict(judged: GateResult, options: RolloutOptions) -> None:
    if judged.verdict in ("passed", "first", "not asked") or (
        judged.verdict == "inconclusive" and options.if_inconclusive == "go"
    ):
        return
    raise ShipError(f"the gate's verdict is {judged.verdict}: {judged.reason}")


def _switch(
    server: EdgeServer, release: str, before: ServerState, finish: Callable[..., RolloutResult], judged: GateResult
) -> RolloutResult:
    """One write changes the active release; nothing that fails after it loses a request."""
    try:
        logger.info(f"{server.name}: switching to {release}")
        server.switch(release)
        server.wait_healthy(release)
    except (ToolchainError, OSError) as error:
        return finish("failed", format_error(error), live=_switch_back(server, release, before))
    reason = judged.reason
    for other in before.containers:
        try:
            if other != release:
                logger.info(f"{server.name}: draining {other}")
                server.stop(other)
        except (ToolchainError, OSError) as error:
            reason = f"{other} could not be stopped ({format_error(error)}); the next run will do that"
    with suppress(ToolchainError, OSError):  # the next run prunes again
        server.prune(frozenset({release, before.live}))
    return finish("live", reason, live=release)


def _switch_back(server: EdgeServer, release: str, before: ServerState) -> str:
    """Switch back to the old release if it still runs; the release that serves then, as far as known."""
    with suppress(ToolchainError, OSError):
        if before.is_serving:
            server.switch(before.live)
            server.stop(release)
            return before.live
    with suppress(ToolchainError, OSError):
        return server.read_state().live
    return ""


def _remove_candidate(server: EdgeServer, release: str, before: ServerState) -> None:
    """Remove a release that did not go live, unless it is the active one."""
    if release == before.live:
        return
    with suppress(ToolchainError, OSError):
        server.stop(release)
        server.prune(frozenset(before.images))
