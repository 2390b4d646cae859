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

from deploy.servers.server import Judged, LockedError, Note, ShipError, Site, State, Ticket, now, told
from toolchain.errors import ToolchainError

logger = logging.getLogger(__name__)


Outcome = Literal["live", "unchanged", "refused", "failed", "locked"]


class Terms(msgspec.Struct, frozen=True):
    """inconclusive: whether a release goes live when its gate is; despite: why the gate is not asked, "" to ask;
    what: is done, as the audit calls it."""

    inconclusive: Literal["stop", "go"] = "stop"
    despite: str = ""
    what: str = "ship"


class Told(msgspec.Struct, frozen=True):
    """How it ended on one server. before: what served when it began; live: what serves now, as far as it was seen."""

    server: str
    release: str
    outcome: Outcome
    before: str = ""
    live: str = ""
    sent_bytes: int = 0
    verdict: str = ""
    reason: str = ""


def roll(site: Site, release: str, ticket: Ticket, terms: Terms) -> Told:
    """Bring `release` to `site`, or leave it as it was. Never raises what went wrong there: it is in what is told."""
    found = Told(site.name, release, "failed")
    try:
        with locked(site, ticket):
            before = tidied(site, patient=not terms.despite)
            found = msgspec.structs.replace(found, before=before.live, live=before.live)
            return _rolled(site, release, before, ticket, terms, found)
    except LockedError as error:
        return msgspec.structs.replace(found, outcome="locked", reason=told(error))
    except (ToolchainError, OSError) as error:
        return msgspec.structs.replace(found, reason=told(error))


@contextmanager
def locked(site: Site, ticket: Ticket) -> Iterator[None]:
    """A lock that cannot be given back (the link is cut) is found by the next run, which knows its holder is gone."""
    site.lock(ticket)
    try:
        yield
    finally:
        with suppress(ToolchainError, OSError):
            site.unlock(ticket)


def tidied(site: Site, patient: bool) -> State:
    """What a run that was killed left: containers that are not the live one go; a live one that does not run any more
    is started again, and waited for, unless what comes is not to be held against it."""
    found = site.state()
    for release in found.containers:
        if release != found.live:
            logger.info(f"{site.name}: removing {release}, which an interrupted run left")
            site.stop(release)
    if found.live and not found.serves:
        logger.info(f"{site.name}: {found.live} should serve and does not: starting it again")
        with suppress(ToolchainError):
            site.start(found.live)
            if patient:
                site.wait_healthy(found.live)
    return site.state()


def planned(site: Site, release: str, terms: Terms) -> list[str]:
    """What roll() would do, a line each, as far as can be told before it is done. Changes nothing."""
    before = site.state()
    site.check(release)
    if before.live == release and before.serves:
        return ["nothing: it serves already"]
    left = [f"remove {other}, which an interrupted run left" for other in before.containers if other != before.live]
    layers, size = site.missing()
    sent = f"send {layers} layers ({size / 1e6:.1f} MB unpacked)" if layers else "send nothing: its image is there"
    judged = f"judge it against {before.live} there" if before.serves else "judge nothing: nothing serves there"
    return [
        "take the lock",
        *left,
        sent,
        f"start {release} beside {before.live or 'nothing'}, until it is certified there",
        f"not ask the gate: {terms.despite}" if terms.despite and before.serves else judged,
        f"switch to {release}",
        *([f"drain and remove {before.live}"] if before.live and before.live != release else []),
        "write the audit, give the lock back",
    ]


def _rolled(site: Site, release: str, before: State, ticket: Ticket, terms: Terms, found: Told) -> Told:
    def noted(outcome: Outcome, reason: str, **more: object) -> Told:
        ended = msgspec.structs.replace(found, outcome=outcome, reason=reason, **more)
        with suppress(ToolchainError, OSError):  # the audit must not undo what was done
            site.note(Note(now(), ticket.who, f"{terms.what}: {ticket.why}", release, outcome, reason))
        return ended

    judged = Judged("first", "nothing served before")
    try:
        site.check(release)
        if before.live == release and before.serves:
            return msgspec.structs.replace(found, outcome="unchanged")
        found = msgspec.structs.replace(found, sent_bytes=site.send(release))
        site.verify(release)
        logger.info(f"{site.name}: starting {release} beside {before.live or 'nothing'}")
        site.start(release)
        logger.info(f"{site.name}: waiting until {release} is certified there")
        site.wait_healthy(release)
        judged = _judged(site, release, before, terms)
        found = msgspec.structs.replace(found, verdict=judged.verdict)
        _require(judged, terms)
    except (ToolchainError, OSError) as error:
        _removed(site, release, before)
        refused = judged.verdict in ("regressed", "inconclusive", "not comparable")
        return noted("refused" if refused else "failed", told(error))
    return _switched(site, release, before, noted, judged)


def _judged(site: Site, release: str, before: State, terms: Terms) -> Judged:
    if not before.serves:
        return Judged("first", "nothing served before")
    if terms.despite:
        return Judged("not asked", f"the gate was not asked: {terms.despite}")
    logger.info(f"{site.name}: {release} is judged against {before.live} there")
    return site.gate(release, before.live)


def _require(judged: Judged, terms: Terms) -> None:
    if judged.verdict in ("passed", "first", "not asked") or (
        judged.verdict == "inconclusive" and terms.inconclusive == "go"
    ):
        return
    raise ShipError(f"the gate says {judged.verdict}: {judged.reason}")


def _switched(site: Site, release: str, before: State, noted: Callable[..., Told], judged: Judged) -> Told:
    """The one write that changes what serves; what follows can fail without a request being lost."""
    try:
        logger.info(f"{site.name}: switching to {release}")
        site.switch(release)
        site.wait_healthy(release)
    except (ToolchainError, OSError) as error:
        return noted("failed", told(error), live=_back(site, release, before))
    reason = judged.reason
    for other in before.containers:
        try:
            if other != release:
                logger.info(f"{site.name}: draining {other}")
                site.stop(other)
        except (ToolchainError, OSError) as error:
            reason = f"{other} could not be stopped ({told(error)}); the next run does that"
    with suppress(ToolchainError, OSError):  # a disk that fills up is the next run's matter
        site.prune(frozenset({release, before.live}))
    return noted("live", reason, live=release)


def _back(site: Site, release: str, before: State) -> str:
    """The old one is named again where it still runs; what serves then, as far as can be seen."""
    with suppress(ToolchainError, OSError):
        if before.serves:
            site.switch(before.live)
            site.stop(release)
            return before.live
    with suppress(ToolchainError, OSError):
        return site.state().live
    return ""


def _removed(site: Site, release: str, before: State) -> None:
    """Half a release is worse than none; one that serves already is not removed."""
    if release == before.live:
        return
    with suppress(ToolchainError, OSError):
        site.stop(release)
        site.prune(frozenset(before.images))
