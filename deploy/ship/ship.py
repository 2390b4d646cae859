"""What a person asks of her edge servers: bring a release there, go back to one, say what runs, what was done, why."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import docker.errors
import msgspec
from docker import DockerClient

from deploy.docker.engine import connect
from deploy.servers.containers import Residents, models_on
from deploy.servers.docker_server import DockerSite, Reached, reached
from deploy.servers.inventory import Inventory, Server, chosen
from deploy.servers.lock_holder import new_ticket
from deploy.servers.release_image import Parcel, lock_of, parcel
from deploy.servers.server import Note, ShipError, Ticket, told
from deploy.servers.transfer import NOTHING, Source, layers_of, packages_of, pushed_from
from deploy.ship.offline import unpacked
from deploy.ship.rollout import Terms, Told, planned, roll
from deploy.ship.waves import Fleet, Seen, roll_out
from toolchain.errors import ToolchainError, UsageError

Answer = Callable[[Server], Told]
AnswerT = TypeVar("AnswerT")


class Asked(msgspec.Struct, frozen=True):
    """servers: names of the inventory, () for all; why: for the audit; despite: why the gate is not asked;
    trust: take the release also where its signer is not known."""

    inventory: Inventory
    servers: tuple[str, ...] = ()
    why: str = ""
    despite: str = ""
    trust: bool = False


class Resident(msgspec.Struct, frozen=True):
    """A model on a server. containers: whether each release's is healthy; images: releases that could be gone back to;
    error: why nothing else is known."""

    server: str
    model: str = ""
    live: str = ""
    serves: bool = False
    containers: dict[str, bool] = {}
    images: tuple[str, ...] = ()
    last: Note | None = None
    error: str = ""


def ship(tag: str, asked: Asked, seen: Seen) -> Fleet:
    """Bring the image `tag` of this machine's engine to the servers, wave by wave. DockerError: it is not here."""
    with closing(connect()) as here:
        sent = parcel(here, tag)
        return shipped(sent, _source(here, sent, asked), asked, seen)


def unpack(place: Path, asked: Asked, seen: Seen) -> Fleet:
    """As ship(), from a stick."""
    with unpacked(place) as (sent, packages):
        return shipped(sent, NOTHING._replace(packages=packages), asked, seen)


def shipped(sent: Parcel, source: Source, asked: Asked, seen: Seen) -> Fleet:
    """As ship(), from wherever."""
    terms = Terms(asked.inventory.policy.inconclusive, asked.despite)
    ticket = new_ticket(asked.why or f"{sent.model} {sent.release}")

    def one(site: DockerSite) -> Told:
        return roll(site, sent.release, ticket, terms)

    def answer(server: Server) -> Told:
        return _answered(server, sent.release, lambda there: one(_site(there, sent, source, asked)))

    return _rolled(asked, answer, seen)


def plan(tag: str, asked: Asked) -> dict[str, list[str]]:
    """What ship() would do, by server; nothing is changed."""
    found: dict[str, list[str]] = {}
    with closing(connect()) as here:
        sent = parcel(here, tag)
        source, terms = _source(here, sent, asked), Terms(asked.inventory.policy.inconclusive, asked.despite)
        for server in chosen(asked.inventory, asked.servers):
            try:
                with reached(server) as there:
                    site = _site(there, sent, source, asked)
                    found[server.name] = planned(site, sent.release, terms)
            except (ToolchainError, OSError) as error:
                found[server.name] = [f"cannot be reached: {told(error)}"]
    return found


def rollback(release: str | None, model: str | None, asked: Asked, seen: Seen) -> Fleet:
    """Go back to `release`, None: the one that served before; its image is still there, and the gate is not asked."""
    why = asked.why or "no reason given"
    ticket = new_ticket(why)
    terms = Terms(despite=f"rolled back: {why}", what="rollback")

    def answer(server: Server) -> Told:
        return _answered(server, release or "", lambda there: _back(there, release, model, ticket, terms, asked))

    return _rolled(asked, answer, seen)


def _back(there: Reached, release: str | None, model: str | None, ticket: Ticket, terms: Terms, asked: Asked) -> Told:
    homes = _homes(there, model)
    to = release or _before(homes)
    images = homes.images()
    image = next((one for one, other in images.items() if other == to), None)
    if image is None:
        raise ShipError(
            f"{there.server.name}: no image of {homes.model} {to} there; it has: "
            f"{', '.join(sorted(images.values())) or 'none'}"
        )
    tags = there.client.images.get(image).tags
    kept = msgspec.structs.replace(parcel(there.client, next(iter(tags), image)), signature=homes.signature(to))
    site = _site(there, kept, NOTHING, asked)
    return roll(site, to, ticket, terms)


def _before(homes: Residents) -> str:
    """What served before what serves now, by the audit."""
    there = homes.state()
    for note in reversed(homes.audit()):
        if note.outcome == "live" and note.release != there.live and note.release in there.images:
            return note.release
    raise ShipError(
        f"{homes.server.name}: nothing to go back to: no release before {there.live or 'this'} is there any more"
    )


def status(asked: Asked) -> list[Resident]:
    """Of every model on every server, and of servers that do not answer, why."""

    def ask(server: Server) -> list[Resident]:
        try:
            with reached(server) as there:
                return [*residents(there)] or [Resident(server.name)]
        except (ToolchainError, OSError) as error:
            return [Resident(server.name, error=told(error))]

    return [one for found in together(asked, ask) for one in found]


def residents(there: Reached) -> Iterator[Resident]:
    layers_of(there.server.name, there.client)
    for model in models_on(there.client):
        homes = Residents(there.server, there.client, model)
        state, notes = homes.state(), homes.audit()
        last = notes[-1] if notes else None
        yield Resident(there.server.name, model, state.live, state.serves, dict(state.containers), state.images, last)


def audit(asked: Asked, model: str | None) -> dict[str, tuple[Note, ...]]:
    """By server, oldest first."""
    found = {}
    for server in chosen(asked.inventory, asked.servers):
        with reached(server) as there:
            found[server.name] = _homes(there, model).audit()
    return found


def logs(asked: Asked, model: str | None, release: str | None, lines: int) -> str:
    """Of the release that serves on one server, or of another's container there."""
    with _only(asked) as there:
        homes = _homes(there, model)
        return homes.logs(release or homes.state().live, lines)


def unlock(asked: Asked, model: str | None) -> bool:
    """Take away a lock whose holder is known to be gone; whether there was one."""
    with _only(asked) as there:
        name = lock_of(_homes(there, model).model)
        with suppress(docker.errors.NotFound):
            there.client.containers.get(name).remove(force=True)
            return True
        return False


@contextmanager
def _only(asked: Asked) -> Iterator[Reached]:
    (server,) = chosen(asked.inventory, asked.servers)
    with reached(server) as there:
        yield there


def together(asked: Asked, ask: Callable[[Server], AnswerT]) -> list[AnswerT]:
    """`ask` of each chosen server, several at once, in the inventory's order."""
    servers = chosen(asked.inventory, asked.servers)
    with ThreadPoolExecutor(min(16, len(servers))) as pool:
        return list(pool.map(ask, servers))


def _rolled(asked: Asked, answer: Answer, seen: Seen) -> Fleet:
    policy, servers = asked.inventory.policy, chosen(asked.inventory, asked.servers)
    return roll_out(servers, policy.waves, policy.failures, policy.parallel, answer, seen)


def _answered(server: Server, release: str, ask: Callable[[Reached], Told]) -> Told:
    """A server that cannot be reached fails like one that refuses."""
    try:
        with reached(server) as there:
            return ask(there)
    except (ToolchainError, OSError) as error:
        return Told(server.name, release, "failed", reason=told(error))


def _source(here: DockerClient, sent: Parcel, asked: Asked) -> Source:
    return Source(packages_of(here, sent), pushed_from(here, sent), asked.inventory.policy.registry)


def _site(there: Reached, sent: Parcel, source: Source, asked: Asked) -> DockerSite:
    return DockerSite(there, sent, source, asked.inventory.policy, asked.trust)


def _homes(there: Reached, model: str | None) -> Residents:
    """Of the only model on a server, or of the one that is named."""
    known = models_on(there.client)
    if model is None and len(known) != 1:
        raise UsageError(f"{there.server.name} serves {', '.join(known) or 'nothing'}: say which: --model")
    if model is not None and model not in known:
        raise UsageError(f"{there.server.name} serves no '{model}'; it serves {', '.join(known) or 'nothing'}")
    return Residents(there.server, there.client, model or known[0])
