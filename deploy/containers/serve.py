"""An image -> a server that answers. Starts, watches, stops and finds containers that are ours, and no others.

A container is ours when it carries our label; one that only has our name is left alone. Knows nothing of models beyond
the manifest and the sample in the image.
"""

import io
import logging
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import docker.errors
import numpy as np
from docker import DockerClient
from docker.models.containers import Container as EngineContainer
from docker.types import LogConfig, Mount
from numpy.typing import NDArray

from deploy.containers.client import asked, connected, opened
from deploy.containers.credentials import Credentials
from deploy.containers.gpus import gpu_requests
from deploy.containers.ports import holder_of, in_use
from deploy.containers.publishing import Reach, grpc_of, is_reached, knows_secrets, listens_on, url_of
from deploy.containers.readiness import ready, wait_until_ready
from deploy.docker.engine import builder, connect, explained, same_machine
from deploy.docker.labels import BUNDLE, ROLE
from deploy.docker.sandbox import MEMORY_BYTES, RESTART, STATE, state_volume, wall_settings
from deploy.images.build import bundle_files, image_here, manifest_from
from toolchain.errors import DeviceError, DockerError
from toolchain.records.bundle import MANIFEST, SAMPLE
from toolchain.records.manifest import Manifest

logger = logging.getLogger(__name__)


DRAIN_S = 15  # the server gives itself 10 s for what is in flight


@dataclass(frozen=True)
class Container:
    """A server of ours. grpc: HOST:PORT, empty: not published. cold_start_s: from start to the first answered
    picture; None when it ran already, or may not be asked."""

    name: str
    id: str
    url: str
    grpc: str
    image: str
    bundle: str
    cold_start_s: float | None = None


def run(
    image: str,
    reach: Reach,
    name: str | None = None,
    cpus: float | None = None,
    memory_bytes: int = MEMORY_BYTES,
    timeout_s: float = 180,
) -> Container:
    """Serve `image` where and as `reach` says, and wait for its first answer.

    Our own container of that name stays when it already does just this, else it is replaced. cpus: a quota in CPUs,
    None for all. DockerError: image missing or for another CPU, port in use, container died or not ready in time.
    """
    name = name or image.rpartition("/")[2].partition(":")[0]
    with closing(connect()) as client:
        image_id = _checked_image(client, image, reach)
        kept, sample = bundle_files(client, image, MANIFEST, SAMPLE)
        manifest, picture = manifest_from(kept, image), _picture(sample)
        older = _ours(client, name)
        if older and _serves(older, image_id, reach, cpus):
            logger.info(f"container: {name} runs already on {url_of(older.attrs)}")
            _answer(url_of(older.attrs), reach, manifest, picture)
            return _described(older)
        _check_ports(client, reach, older)
        if older:
            logger.info(f"container: replacing our {name} ({older.status})")
            _stop(older)
        created = _create(client, image, reach, name, cpus, memory_bytes, state_volume(manifest.name))
        try:
            began = time.monotonic()
            _start(client, created, reach)
            url = url_of(created.attrs)
            wait_until_ready(url, timeout_s, lambda: _check_alive(created), reach.shown)
            cold_start_s = time.monotonic() - began if _answer(url, reach, manifest, picture) else None
            # not before: what cannot serve must not be tried again and again
            created.update(restart_policy=RESTART)  # type: ignore[arg-type]  # a word its stub lacks
        except BaseException:
            with suppress(docker.errors.NotFound):
                created.remove(force=True)  # half a server is worse than none
            raise
        logger.info(f"container: {name} {_in_words(url, cold_start_s)}")
        return _described(created, cold_start_s)


def check_start(name: str, reach: Reach) -> None:
    """DockerError for what would stop an image and its container: no engine, no BuildKit, not our container, port in
    use."""
    builder()
    with closing(connect()) as client:
        _check_ports(client, reach, _ours(client, name))


def stop(name: str) -> bool:
    """Let `name` drain, then remove it; False when there is no such container. DockerError when it is not ours."""
    with closing(connect()) as client:
        found = _ours(client, name)
        if found:
            _stop(found)
        return bool(found)


def _stop(container: EngineContainer) -> None:
    try:
        container.stop(timeout=DRAIN_S)
        container.remove(force=True)
    except docker.errors.APIError as error:
        raise explained(error, f"container '{container.name}'") from error


def _described(container: EngineContainer, cold_start_s: float | None = None) -> Container:
    image, bundle = str(container.attrs["Config"]["Image"]), container.labels.get(BUNDLE, "")
    url, grpc = url_of(container.attrs), grpc_of(container.attrs)
    return Container(str(container.name), str(container.id), url, grpc, image, bundle, cold_start_s)


def _in_words(url: str, cold_start_s: float | None) -> str:
    if cold_start_s is None:
        return f"is ready on {url}; it answers client certificates only: --cert=FILE --key=FILE would have asked it"
    return f"answers on {url}, {cold_start_s:.2f} s after its start"


def _checked_image(client: DockerClient, image: str, reach: Reach) -> str:
    """The image's id; DockerError when this engine has no such image, or cannot run it, or it knows no secrets."""
    found = image_here(client, image)
    built, here = found.attrs["Architecture"], client.info()["Architecture"]
    if not same_machine(built, here):
        raise DockerError(f"{image} is for {built}; this engine runs on {here}; build it for that: toolchain build")
    if (reach.secrets or reach.grpc_port is not None) and not knows_secrets(found.attrs):
        raise DockerError(f"{image} is older than gRPC, TLS and tokens in its server; make it again: toolchain image")
    return str(found.id)


def _ours(client: DockerClient, name: str) -> EngineContainer | None:
    try:
        found = client.containers.get(name)
    except docker.errors.NotFound:
        return None
    except docker.errors.APIError as error:
        raise explained(error, f"container '{name}'") from error
    if found.labels.get(ROLE) != "server":
        raise DockerError(
            f"container '{name}' was not made by this toolchain; choose another name, or remove it yourself"
        )
    return found


def _serves(container: EngineContainer, image_id: str, reach: Reach, cpus: float | None) -> bool:
    """Whether it is just what was asked for, and ready."""
    if container.status != "running" or container.attrs["Image"] != image_id:
        return False
    same_quota = container.attrs["HostConfig"]["NanoCpus"] == int((cpus or 0) * 1e9)
    attrs = container.attrs
    return same_quota and is_reached(attrs, reach) and ready(url_of(attrs), reach.shown)[0]


def _create(
    client: DockerClient, image: str, reach: Reach, name: str, cpus: float | None, memory_bytes: int, volume: str
) -> EngineContainer:
    memory = min(memory_bytes, int(client.info()["MemTotal"] * 0.9))
    try:
        return client.containers.create(
            image,
            name=name,
            labels={ROLE: "server"},
            ports=reach.ports,
            environment=reach.environment,
            nano_cpus=int(cpus * 1e9) if cpus else None,
            log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
            mounts=[Mount(STATE, volume, type="volume"), *reach.mounts],
            device_requests=gpu_requests(client, image),
            **wall_settings(memory),
        )
    except docker.errors.APIError as error:
        raise explained(error, f"container '{name}'") from error


def _start(client: DockerClient, created: EngineContainer, reach: Reach) -> None:
    try:
        created.start()
    except docker.errors.APIError as error:
        text = str(error.explanation)
        if "already allocated" in text or "already in use" in text:
            if reach.grpc_port and f":{reach.grpc_port} " in text:
                raise _taken(client, "--grpc-port", reach.grpc_port) from error
            raise _taken(client, "--port", reach.port) from error
        raise explained(error, f"container '{created.name}'") from error
    _reload(created)


def _check_ports(client: DockerClient, reach: Reach, older: EngineContainer | None) -> None:
    """DockerError when someone other than `older`, which makes way, listens on a port that is asked for."""
    for flag, port in (("--port", reach.port), ("--grpc-port", reach.grpc_port)):
        if port and in_use(port) and not (older and older.status == "running" and listens_on(older.attrs, port)):
            raise _taken(client, flag, port)


def _taken(client: DockerClient, flag: str, port: int) -> DockerError:
    return DockerError(f"port {port} is in use by {holder_of(port, client)}; stop that, or choose another: {flag}=…")


def _reload(container: EngineContainer) -> None:
    try:
        container.reload()
    except docker.errors.NotFound as error:
        raise DockerError(
            f"container '{container.name}' was removed by someone while it started; start it again: toolchain run"
        ) from error


def _check_alive(container: EngineContainer) -> None:
    _reload(container)
    state = container.attrs["State"]
    if state["Status"] not in ("exited", "dead"):
        return
    said = [line for line in container.logs(tail=20).decode(errors="replace").splitlines() if line.strip()]
    last = said[-1][:400] if said else "it wrote nothing"
    how = "killed, out of memory" if state["OOMKilled"] else f"exit {state['ExitCode']}"
    raise DockerError(f"container '{container.name}' died ({how}): {last}")


def _picture(sample: bytes) -> NDArray[np.uint8]:
    """The first golden input, as a batch of one."""
    with np.load(io.BytesIO(sample), allow_pickle=False) as arrays:
        return cast("NDArray[np.uint8]", arrays["inputs"][:1])


def _answer(url: str, reach: Reach, manifest: Manifest, picture: NDArray[np.uint8]) -> bool:
    """Whether it was asked. DeviceError when it does not answer us, or answers others."""
    if reach.strangers is not None:
        _check_closed(url, manifest, reach.strangers)
    if reach.may_ask:
        with connected(url, manifest.name, shown=reach.shown) as server:
            server.infer(picture)
    return reach.may_ask


def _check_closed(url: str, manifest: Manifest, stranger: Credentials) -> None:
    with opened(url, 10, stranger) as connection:
        status, _ = asked(connection, f"/v2/models/{manifest.name}")
    if status not in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise DeviceError(f"{url} answers strangers ({status}), in spite of --secrets; make it again: toolchain image")
