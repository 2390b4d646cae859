"""The commands for edge servers: ship a release, roll back, and read status, audit and logs."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import docker.errors
import msgspec
from docker import DockerClient
from docker.models.containers import Container

from deploy.docker.engine import connect
from deploy.images.signatures import own_public_key
from deploy.servers.containers import DeployedContainers, audited_model_names, deployed_model_names
from deploy.servers.docker_server import DockerServer, ServerConnection, connect_server
from deploy.servers.inventory import Inventory, ServerConfig, select_servers
from deploy.servers.lock import locked_models
from deploy.servers.lock_holder import new_lock_holder
from deploy.servers.records import ServerRecords
from deploy.servers.registry import registry_push
from deploy.servers.release_image import ReleaseImage, lock_name, read_deployed_image, read_release_image
from deploy.servers.server import AuditEntry, LockHolder, ShipError, format_error
from deploy.servers.transfer import NO_SOURCE, ReleaseSource, archive_provider, record_layers
from deploy.ship.offline import open_offline_bundle
from deploy.ship.rollout import RolloutOptions, RolloutResult, plan_steps, roll_out_to_server
from deploy.ship.waves import OnResult, RollOut, WavesResult, roll_out_in_waves
from toolchain.errors import ToolchainError, UsageError

logger = logging.getLogger(__name__)
QueriedT = TypeVar("QueriedT")


class ShipRequest(msgspec.Struct, frozen=True):
    """servers: names in the inventory, () for all; why: for the audit; skip_gate: why no gate runs, "" where one does;
    trust: accept a signer that the server does not trust yet; first_trust: accept one where the server trusts none yet;
    allow_downgrade: the release may be older than what was shipped to a server before."""

    inventory: Inventory
    servers: tuple[str, ...] = ()
    why: str = ""
    skip_gate: str = ""
    trust: bool = False
    first_trust: bool = True
    allow_downgrade: bool = False

    @property
    def rollout_options(self) -> RolloutOptions:
        inconclusive = self.inventory.policy.inconclusive
        return RolloutOptions(inconclusive, self.skip_gate, allow_downgrade=self.allow_downgrade)


class DeployedModel(msgspec.Struct, frozen=True):
    """A model on a server. containers: whether each release's is healthy; images: releases that could be gone back to;
    error: why nothing else is known."""

    server: str
    model: str = ""
    live: str = ""
    serves: bool = False
    containers: dict[str, bool] = {}
    images: tuple[str, ...] = ()
    last: AuditEntry | None = None
    error: str = ""


def warn_of_open_servers(request: ShipRequest) -> None:
    """Once for a command, since each of these servers is reached by more than those who are meant."""
    servers = [server for server in select_servers(request.inventory, request.servers) if server.is_open]
    if servers:
        where = ", ".join(f"{server.name}:{server.port}" for server in servers)
        logger.warning(
            f"open without tokens: {where}; whoever reaches them can use the model; "
            "close them by secrets and closed_by in the inventory"
        )


def ship_from_engine(tag: str, request: ShipRequest, on_result: OnResult) -> WavesResult:
    """Bring the image `tag` of this machine's engine to the servers, wave by wave. DockerError: it is not here."""
    with closing(connect()) as here:
        sent = read_release_image(here, tag)
        return ship_image(sent, _image_source(here, sent, request), request, on_result)


def ship_from_bundle(place: Path, request: ShipRequest, on_result: OnResult) -> WavesResult:
    """As ship_from_engine, from an offline bundle. A file may come from anybody: that it is the first that a server
    gets is no reason to trust its signer, unless that is this machine."""
    with open_offline_bundle(place) as opened:
        source = NO_SOURCE._replace(archive_without=opened.archive_without)
        asked = msgspec.structs.replace(request, first_trust=opened.signer == own_public_key())
        return ship_image(opened.release, source, asked, on_result)


def ship_image(sent: ReleaseImage, source: ReleaseSource, request: ShipRequest, on_result: OnResult) -> WavesResult:
    """As ship_from_engine, from any source."""
    terms = request.rollout_options
    holder = new_lock_holder(request.why or f"{sent.model} {sent.release}")

    def one(target: DockerServer) -> RolloutResult:
        return roll_out_to_server(target, sent.release, holder, terms)

    def answer(server: ServerConfig) -> RolloutResult:
        return _with_connection(server, sent.release, lambda there: one(_docker_server(there, sent, source, request)))

    return _run_waves(request, answer, on_result)


def plan_rollout(tag: str, request: ShipRequest) -> dict[str, list[str]]:
    """The steps of a rollout, by server. Changes nothing."""
    found: dict[str, list[str]] = {}
    with closing(connect()) as here:
        sent = read_release_image(here, tag)
        source, terms = _image_source(here, sent, request), request.rollout_options
        for server in select_servers(request.inventory, request.servers):
            try:
                with connect_server(server) as there:
                    target = _docker_server(there, sent, source, request)
                    found[server.name] = plan_steps(target, sent.release, terms)
            except (ToolchainError, OSError) as error:
                found[server.name] = [f"not possible: {format_error(error)}"]
    return found


def roll_back(release: str | None, model: str | None, request: ShipRequest, on_result: OnResult) -> WavesResult:
    """Roll back to `release` (None: the one that served before), whose image is still there. No gate is run."""
    why = request.why or "no reason given"
    holder = new_lock_holder(why)
    terms = RolloutOptions(skip_gate=f"rolled back: {why}", action="rollback", allow_downgrade=True)

    def answer(server: ServerConfig) -> RolloutResult:
        return _with_connection(
            server, release or "", lambda there: _roll_back_server(there, release, model, holder, terms, request)
        )

    return _run_waves(request, answer, on_result)


def _roll_back_server(
    there: ServerConnection,
    release: str | None,
    model: str | None,
    holder: LockHolder,
    terms: RolloutOptions,
    request: ShipRequest,
) -> RolloutResult:
    containers = containers_of(there, model)
    to = release or _previous_release(containers)
    images = containers.images()
    image = next((one for one, other in images.items() if other == to), None)
    if image is None:
        raise ShipError(
            f"{there.server.name}: no image of {containers.model} {to} there; it has: "
            f"{', '.join(sorted(images.values())) or 'none'}"
        )
    kept = read_deployed_image(there.client.images.get(image), containers.records.read_signature(to))
    target = _docker_server(there, kept, NO_SOURCE, request)
    return roll_out_to_server(target, to, holder, terms)


def _previous_release(containers: DeployedContainers) -> str:
    """The release that served before the active one, by the audit."""
    there = containers.read_state()
    for note in reversed(containers.records.read_audit()):
        if note.outcome == "live" and note.release != there.live and note.release in there.images:
            return note.release
    raise ShipError(
        f"{containers.server.name}: nothing to roll back to: no release before {there.live or 'this'} is left there"
    )


def read_status(request: ShipRequest) -> list[DeployedModel]:
    """The state of every model on every server; for servers that do not answer, the error."""

    def ask(server: ServerConfig) -> list[DeployedModel]:
        try:
            with connect_server(server) as there:
                return [*deployed_models(there)] or [DeployedModel(server.name)]
        except (ToolchainError, OSError) as error:
            return [DeployedModel(server.name, error=format_error(error))]

    return [one for found in query_servers(request, ask) for one in found]


def deployed_models(there: ServerConnection) -> Iterator[DeployedModel]:
    record_layers(there.server.name, there.client)
    for model in deployed_model_names(there.client):
        containers = DeployedContainers(there.server, there.client, model)
        state, notes = containers.read_state(), containers.records.read_audit()
        last = notes[-1] if notes else None
        yield DeployedModel(
            there.server.name, model, state.live, state.is_serving, dict(state.containers), state.images, last
        )


def read_logs(request: ShipRequest, model: str | None, release: str | None, lines: int) -> str:
    """The last `lines` lines of the active release on one server, or of another release there."""
    with _only_server(request) as there:
        containers = containers_of(there, model)
        return containers.read_logs(release or containers.read_state().live, lines)


def remove_lock(request: ShipRequest, model: str | None) -> bool:
    """Remove a lock whose holder is known to have ended; whether there was one. A run may have ended before its model
    was there, and a lock may say nothing of its model."""
    with _only_server(request) as there:
        models = {model} if model else {*deployed_model_names(there.client), *locked_models(there.client)}
        locks = [lock for name in models for lock in _find_container(there.client, lock_name(name))]
        if len(locks) > 1:
            raise UsageError(f"{there.server.name}: {len(locks)} models are locked; choose one: --model")
        for lock in locks:
            lock.remove(force=True)
        return bool(locks)


def _find_container(client: DockerClient, name: str) -> list[Container]:
    """The container of that name, or none."""
    with suppress(docker.errors.NotFound):
        return [client.containers.get(name)]
    return []


@contextmanager
def _only_server(request: ShipRequest) -> Iterator[ServerConnection]:
    (server,) = select_servers(request.inventory, request.servers)
    with connect_server(server) as there:
        yield there


def query_servers(request: ShipRequest, ask: Callable[[ServerConfig], QueriedT]) -> list[QueriedT]:
    """The result of `ask` for each selected server, in the inventory's order; several are queried at once."""
    servers = select_servers(request.inventory, request.servers)
    with ThreadPoolExecutor(min(16, len(servers))) as pool:
        return list(pool.map(ask, servers))


def _run_waves(request: ShipRequest, answer: RollOut, on_result: OnResult) -> WavesResult:
    policy, servers = request.inventory.policy, select_servers(request.inventory, request.servers)
    return roll_out_in_waves(servers, policy.waves, policy.failures, policy.parallel, answer, on_result)


def _with_connection(
    server: ServerConfig, release: str, ask: Callable[[ServerConnection], RolloutResult]
) -> RolloutResult:
    """The result of `ask`; a server that cannot be reached counts as failed."""
    try:
        with connect_server(server) as there:
            return ask(there)
    except (ToolchainError, OSError) as error:
        return RolloutResult(server.name, release, "failed", reason=format_error(error))


def _image_source(here: DockerClient, sent: ReleaseImage, request: ShipRequest) -> ReleaseSource:
    return ReleaseSource(archive_provider(here, sent), registry_push(here, sent), request.inventory.policy.registry)


def _docker_server(
    there: ServerConnection, sent: ReleaseImage, source: ReleaseSource, request: ShipRequest
) -> DockerServer:
    return DockerServer(there, sent, source, request.inventory.policy, request.trust, request.first_trust)


def containers_of(there: ServerConnection, model: str | None) -> DeployedContainers:
    """The containers of `model`, or of the only model on the server."""
    return _select_containers(there, model, deployed_model_names(there.client))


def records_of(there: ServerConnection, model: str | None) -> ServerRecords:
    """What is recorded of `model`, or of the only model that was ever shipped to the server."""
    return _select_containers(there, model, audited_model_names(there.client)).records


def _select_containers(there: ServerConnection, model: str | None, known: Sequence[str]) -> DeployedContainers:
    if model is None and len(known) != 1:
        raise UsageError(f"{there.server.name} serves {', '.join(known) or 'nothing'}: choose one: --model")
    if model is not None and model not in known:
        raise UsageError(f"{there.server.name} serves no '{model}'; it serves {', '.join(known) or 'nothing'}")
    return DeployedContainers(there.server, there.client, model or known[0])
