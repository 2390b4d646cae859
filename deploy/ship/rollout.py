"""A release on one server, as a story: lock, tidy, check, send, verify, start beside, certified and healthy, judged
against what runs, switched to, watched, the old one drained, noted.

What serves is never touched before the new one has shown on that very device that it is no worse. Whatever goes wrong
before the switch, the new one is removed; after it, the old one is named again. A tool that is killed leaves at most a
lock and a second container: the next run finds both and tidies up. `live` on the server is the only truth.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import msgspec

from deploy.servers.server import (
    AuditEntry,
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
    "" to run it; action: its name in the audit."""

    if_inconclusive: Literal["stop", "go"] = "stop"
    skip_gate: str = ""
    action: str = "ship"


class RolloutResult(msgspec.Struct, frozen=True):
    """How it ended on one server. before: what served when it began; live: what serves now, as far as it was seen."""

    server: str
    release: str
    outcome: RolloutOutcome
    before: str = ""
    live: str = ""
    sent_bytes: int = 0
    verdict: str = ""
    reason: str = ""


def roll_out_to_server(server: EdgeServer, release: str, holder: LockHolder, options: RolloutOptions) -> RolloutResult:
    """Bring `release` to `site`, or leave it as it was. Never raises what went wrong there: it is in what is told."""
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
    """A lock that cannot be given back (the link is cut) is found by the next run, which knows its holder is gone."""
    server.lock(holder)
    try:
        yield
    finally:
        with suppress(ToolchainError, OSError):
            server.unlock(holder)


def clean_up(server: EdgeServer, patient: bool) -> ServerState:
    """What a run that was killed left: containers that are not the live one go; a live one that does not run any more
    is started again, and waited for, unless what comes is not to be held against it."""
    found = server.read_state()
    for release in found.containers:
        if release != found.live:
            logger.info(f"{server.name}: removing {release}, which an interrupted run left")
            server.stop(release)
    if found.live and not found.is_serving:
        logger.info(f"{server.name}: {found.live} should serve and does not: starting it again")
        with suppress(ToolchainError):
            server.start(found.live)
            if patient:
                server.wait_healthy(found.live)
    return server.read_state()


def plan_steps(server: EdgeServer, release: str, options: RolloutOptions) -> list[str]:
    """What roll() would do, a line each, as far as can be told before it is done. Changes nothing."""
    before = server.read_state()
    server.check(release)
    if before.live == release and before.is_serving:
        return ["nothing: it serves already"]
    left = [f"remove {other}, which an interrupted run left" for other in before.containers if other != before.live]
    layers, size = server.missing_layers()
    sent = f"send {layers} layers ({size / 1e6:.1f} MB unpacked)" if layers else "send nothing: its image is there"
    judged = f"judge it against {before.live} there" if before.is_serving else "judge nothing: nothing serves there"
    return [
        "take the lock",
        *left,
        sent,
        f"start {release} beside {before.live or 'nothing'}, until it is certified there",
        f"not ask the gate: {options.skip_gate}" if options.skip_gate and before.is_serving else judged,
        f"switch to {release}",
        *([f"drain and remove {before.live}"] if before.live and before.live != release else []),
        "write the audit, give the lock back",
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
        ended = msgspec.structs.replace(found, outcome=outcome, reason=reason, **more)
        with suppress(ToolchainError, OSError):  # the audit must not undo what was done
            server.append_audit(
                AuditEntry(now(), holder.who, f"{options.action}: {holder.why}", release, outcome, reason)
            )
        return ended

    judged = GateResult("first", "nothing served before")
    try:
        server.check(release)
        if before.live == release and before.is_serving:
            return msgspec.structs.replace(found, outcome="unchanged")
        found = msgspec.structs.replace(found, sent_bytes=server.send(release))
        server.verify(release)
        logger.info(f"{server.name}: starting {release} beside {before.live or 'nothing'}")
        server.start(release)
        logger.info(f"{server.name}: waiting until {release} is certified there")
        server.wait_healthy(release)
        judged = _run_gate(server, release, before, options)
        found = msgspec.structs.replace(found, verdict=judged.verdict)
        _require_verdict(judged, options)
    except (ToolchainError, OSError) as error:
        _remove_candidate(server, release, before)
        refused = judged.verdict in ("regressed", "inconclusive", "not comparable")
        return finish("refused" if refused else "failed", format_error(error))
    return _switch(server, release, before, finish, judged)


def _run_gate(server: EdgeServer, release: str, before: ServerState, options: RolloutOptions) -> GateResult:
    if not before.is_serving:
        return GateResult("first", "nothing served before")
    if options.skip_gate:
        return GateResult("not asked", f"the gate was not asked: {options.skip_gate}")
    logger.info(f"{server.name}: {release} is judged against {before.live} there")
    return server.gate(release, before.live)


def _require_verdict(judged: GateResult, options: RolloutOptions) -> None:
    if judged.verdict in ("passed", "first", "not asked") or (
        judged.verdict == "inconclusive" and options.if_inconclusive == "go"
    ):
        return
    raise ShipError(f"the gate says {judged.verdict}: {judged.reason}")


def _switch(
    server: EdgeServer, release: str, before: ServerState, finish: Callable[..., RolloutResult], judged: GateResult
) -> RolloutResult:
    """The one write that changes what serves; what follows can fail without a request being lost."""
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
            reason = f"{other} could not be stopped ({format_error(error)}); the next run does that"
    with suppress(ToolchainError, OSError):  # a disk that fills up is the next run's matter
        server.prune(frozenset({release, before.live}))
    return finish("live", reason, live=release)


def _switch_back(server: EdgeServer, release: str, before: ServerState) -> str:
    """The old one is named again where it still runs; what serves then, as far as can be seen."""
    with suppress(ToolchainError, OSError):
        if before.is_serving:
            server.switch(before.live)
            server.stop(release)
            return before.live
    with suppress(ToolchainError, OSError):
        return server.read_state().live
    return ""


def _remove_candidate(server: EdgeServer, release: str, before: ServerState) -> None:
    """Half a release is worse than none; one that serves already is not removed."""
    if release == before.live:
        return
    with suppress(ToolchainError, OSError):
        server.stop(release)
        server.prune(frozenset(before.images))
