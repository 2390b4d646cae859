"""An image -> a server that answers. Starts, watches, stops and finds containers that are ours, and no others.

A container is ours when it carries our label; one that only has our name is left alone. Knows nothing of models beyond
the manifest and the sample in the image.
"""

import io
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import cast

import docker.errors
import numpy as np
from docker import DockerClient
from docker.models.containers import Container as EngineContainer
from docker.types import LogConfig, Mount
from numpy.typing import NDArray

from deploy import Say
from deploy.client import connected
from deploy.engine import builder, connect, explained, same_machine
from deploy.gpus import gpu_requests
from deploy.image import bundle_files, image_here, manifest_from
from deploy.labels import BUNDLE, ROLE
from deploy.ports import holder_of, in_use
from deploy.readiness import ready, wait_until_ready
from deploy.wall import MEMORY_BYTES, RESTART, STATE, state_volume, wall_settings
from toolchain import progress
from toolchain.errors import DockerError
from toolchain.records.bundle import MANIFEST, SAMPLE
from toolchain.records.manifest import Manifest

INSIDE = "8080/tcp"
DRAIN_S = 15  # the server gives itself 10 s for what is in flight


@dataclass(frozen=True)
class Container:
    """A server of ours. cold_start_s: from start to the first answered picture; None when it ran already."""

    name: str
    id: str
    url: str
    image: str
    bundle: str
    cold_start_s: float | None = None


def run(
    image: str,
    port: int,
    name: str | None = None,
    say: Say = progress.say,
    cpus: float | None = None,
    memory_bytes: int = MEMORY_BYTES,
    timeout_s: float = 180,
) -> Container:
    """Serve `image` on `port` (0: any free one) and wait for its first answer.

    Our own container of that name stays when it already does just this, else it is replaced. cpus: a quota in CPUs,
    None for all. DockerError: image missing or for another CPU, port in use, container died or not ready in time.
    """
    name = name or image.rpartition("/")[2].partition(":")[0]
    with closing(connect()) as client:
        image_id = _checked_image(client, image)
        kept, sample = bundle_files(client, image, MANIFEST, SAMPLE)
        manifest, picture = manifest_from(kept, image), _picture(sample)
        older = _ours(client, name)
        if older and _serves(older, image_id, port, cpus):
            say(f"container: {name} runs already on {_url(older)}")
            _answer(_url(older), manifest, picture)
            return _described(older)
        _check_port(client, port, older)
        if older:
            say(f"container: replacing our {name} ({older.status})")
            _stop(older)
        created = _create(client, image, port, name, cpus, memory_bytes, state_volume(manifest.name))
        try:
            began = time.monotonic()
            _start(client, created, port)
            wait_until_ready(_url(created), timeout_s, lambda: _check_alive(created))
            _answer(_url(created), manifest, picture)
            cold_start_s = time.monotonic() - began
            # not before: what cannot serve must not be tried again and again
            created.update(restart_policy=RESTART)  # type: ignore[arg-type]  # a word its stub lacks
        except BaseException:
            with suppress(docker.errors.NotFound):
                created.remove(force=True)  # half a server is worse than none
            raise
        say(f"container: {name} answers on {_url(created)}, {cold_start_s:.2f} s after its start")
        return _described(created, cold_start_s)


def check_start(name: str, port: int) -> None:
    """DockerError for what would stop an image and its container: no engine, no BuildKit, not our container, port in
    use."""
    builder()
    with closing(connect()) as client:
        _check_port(client, port, _ours(client, name))


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
    return Container(str(container.name), str(container.id), _url(container), image, bundle, cold_start_s)


def _checked_image(client: DockerClient, image: str) -> str:
    """The image's id; DockerError when this engine has no such image, or cannot run it."""
    found = image_here(client, image)
    built, here = found.attrs["Architecture"], client.info()["Architecture"]
    if not same_machine(built, here):
        raise DockerError(f"{image} is for {built}; this engine runs on {here}; build it for that: toolchain build")
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


def _serves(container: EngineContainer, image_id: str, port: int, cpus: float | None) -> bool:
    """Whether it is just what was asked for, and ready."""
    if container.status != "running" or container.attrs["Image"] != image_id:
        return False
    same_quota = container.attrs["HostConfig"]["NanoCpus"] == int((cpus or 0) * 1e9)
    same_port = not port or _url(container).endswith(f":{port}")
    return same_quota and same_port and ready(_url(container))[0]


def _create(
    client: DockerClient, image: str, port: int, name: str, cpus: float | None, memory_bytes: int, volume: str
) -> EngineContainer:
    memory = min(memory_bytes, int(client.info()["MemTotal"] * 0.9))
    try:
        return client.containers.create(
            image,
            name=name,
            labels={ROLE: "server"},
            ports={INSIDE: port or None},
            nano_cpus=int(cpus * 1e9) if cpus else None,
            log_config=LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
            mounts=[Mount(STATE, volume, type="volume")],
            device_requests=gpu_requests(client, image),
            **wall_settings(memory),
        )
    except docker.errors.APIError as error:
        raise explained(error, f"container '{name}'") from error


def _start(client: DockerClient, created: EngineContainer, port: int) -> None:
    try:
        created.start()
    except docker.errors.APIError as error:
        text = str(error.explanation)
        if "already allocated" in text or "already in use" in text:
            raise _taken(client, port) from error
        raise explained(error, f"container '{created.name}'") from error
    _reload(created)


def _check_port(client: DockerClient, port: int, older: EngineContainer | None) -> None:
    """DockerError when someone other than `older`, which makes way, listens on `port`."""
    ours = older is not None and older.status == "running" and _url(older).endswith(f":{port}")
    if port and not ours and in_use(port):
        raise _taken(client, port)


def _taken(client: DockerClient, port: int) -> DockerError:
    return DockerError(f"port {port} is in use by {holder_of(port, client)}; stop that, or choose another: --port=…")


def _reload(container: EngineContainer) -> None:
    try:
        container.reload()
    except docker.errors.NotFound as error:
        raise DockerError(
            f"container '{container.name}' was removed by someone while it started; start it again: toolchain run"
        ) from error


def _url(container: EngineContainer) -> str:
    bindings = container.attrs["NetworkSettings"]["Ports"].get(INSIDE) or [{"HostPort": "0"}]
    return f"http://127.0.0.1:{bindings[0]['HostPort']}"


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


def _answer(url: str, manifest: Manifest, picture: NDArray[np.uint8]) -> None:
    with connected(url, manifest.name) as server:
        server.infer(picture)
