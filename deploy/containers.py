"""An image -> a server that answers. Starts, watches, stops and finds containers that are ours, and no others.

A container is ours when it carries our label; one that only has our name is left alone. Knows nothing of models beyond
the manifest and the sample in the image.
"""

import io
import tarfile
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import cast

import docker.errors
import numpy as np
from docker import DockerClient
from docker.models.containers import Container as EngineContainer

from deploy import Say
from deploy.engine import connect, explained
from deploy.firstanswer import first_answer, ready, wait_until_ready
from deploy.image import find_image
from deploy.labels import BUNDLE, ROLE
from deploy.ports import holder_of
from toolchain.errors import DockerError
from toolchain.records.bundle import MANIFEST, SAMPLE
from toolchain.records.files import decoded
from toolchain.records.manifest import FORMAT, Manifest
from toolchain.records.tensors import Array

INSIDE = "8080/tcp"
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
MEMORY_BYTES = 4 << 30


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
    name: str,
    say: Say,
    cpus: float | None = None,
    memory_bytes: int = MEMORY_BYTES,
    timeout_s: float = 60,
) -> Container:
    """Serve `image` on `port` (0: any free one) and wait for its first answer; replaces our own container `name`.

    cpus: a quota in CPUs, None for all. DockerError: image missing or for another CPU, port in use, container died.
    """
    client = connect()
    _check_image(client, image)
    _make_room(client, name, say)
    created = _create(client, image, port, name, cpus, memory_bytes)
    try:
        manifest = decoded(_file_in(created, MANIFEST), Manifest, f"{image}:/bundle/{MANIFEST}", FORMAT)
        picture = _picture(created)
        say(f"container: starting {name}")
        began = time.monotonic()
        _start(client, created, port)
        url = _url(created)
        wait_until_ready(url, timeout_s, lambda: _check_alive(created))
        first_answer(url, manifest, picture)
        cold_start_s = time.monotonic() - began
    except BaseException:
        created.remove(force=True)  # half a server is worse than none
        raise
    say(f"container: {name} answers on {url} after {cold_start_s:.2f} s")
    return Container(name, str(created.id), url, image, created.labels.get(BUNDLE, ""), cold_start_s)


def find(name: str) -> Container | None:
    """Our container `name` when it runs and is ready now, else None."""
    found = _ours(connect(), name)
    if not found or found.status != "running":
        return None
    url = _url(found)
    image = str(found.attrs["Config"]["Image"])
    return Container(name, str(found.id), url, image, found.labels.get(BUNDLE, "")) if ready(url)[0] else None


def stop(name: str, timeout_s: int = 15) -> bool:
    """Let `name` drain, then remove it; False when there is no such container. DockerError when it is not ours."""
    found = _ours(connect(), name)
    if not found:
        return False
    try:
        found.stop(timeout=timeout_s)
        found.remove(force=True)
    except docker.errors.APIError as error:
        raise explained(error, f"container '{name}'") from error
    return True


def logs(name: str, lines: int = 100) -> str:
    """The last lines that `name` wrote; DockerError when there is no such container."""
    found = _ours(connect(), name)
    if not found:
        raise DockerError(f"no container '{name}'; start one: toolchain run")
    return found.logs(tail=lines).decode(errors="replace")


def _check_image(client: DockerClient, image: str) -> None:
    found = find_image(client, image)
    if not found:
        raise DockerError(f"{image}: no such image on this engine; make it: toolchain image")
    built, here = found.attrs["Architecture"], client.info()["Architecture"]
    if MACHINES.get(built, built) != MACHINES.get(here, here):
        raise DockerError(f"{image} is for {built}; this engine runs on {here}; build it for that: toolchain build")


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


def _make_room(client: DockerClient, name: str, say: Say) -> None:
    older = _ours(client, name)
    if older:
        say(f"container: replacing our {name} ({older.status})")
        stop(name)


def _create(
    client: DockerClient, image: str, port: int, name: str, cpus: float | None, memory_bytes: int
) -> EngineContainer:
    memory = min(memory_bytes, int(client.info()["MemTotal"] * 0.9))
    try:
        return client.containers.create(
            image,
            name=name,
            labels={ROLE: "server"},
            ports={INSIDE: port or None},
            read_only=True,
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            pids_limit=512,
            mem_limit=memory,
            memswap_limit=memory,
            nano_cpus=int(cpus * 1e9) if cpus else None,
            tmpfs={"/tmp": "rw,nosuid,nodev,noexec,size=256m"},
            log_config=docker.types.LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
        )
    except docker.errors.APIError as error:
        raise explained(error, f"container '{name}'") from error


def _start(client: DockerClient, created: EngineContainer, port: int) -> None:
    try:
        created.start()
    except docker.errors.APIError as error:
        text = str(error.explanation)
        if "already allocated" in text or "already in use" in text:
            holder = holder_of(port, client)
            raise DockerError(f"port {port} is in use by {holder}; stop that, or choose another: --port=…") from error
        raise explained(error, f"container '{created.name}'") from error
    created.reload()


def _url(container: EngineContainer) -> str:
    bindings = container.attrs["NetworkSettings"]["Ports"].get(INSIDE) or [{"HostPort": "0"}]
    return f"http://127.0.0.1:{bindings[0]['HostPort']}"


def _check_alive(container: EngineContainer) -> None:
    container.reload()
    state = container.attrs["State"]
    if state["Status"] not in ("exited", "dead"):
        return
    said = [line for line in container.logs(tail=20).decode(errors="replace").splitlines() if line.strip()]
    last = said[-1][:400] if said else "it wrote nothing"
    how = "killed, out of memory" if state["OOMKilled"] else f"exit {state['ExitCode']}"
    raise DockerError(f"container '{container.name}' died ({how}): {last}")


def _file_in(container: EngineContainer, name: str) -> bytes:
    """A file of the bundle in the container, which need not run."""
    try:
        stream, _ = container.get_archive(str(PurePosixPath("/bundle", name)))
    except docker.errors.NotFound as error:
        raise DockerError(
            f"{container.name}: the image holds no /bundle/{name}; it was not made by `toolchain image`"
        ) from error
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        file = archive.extractfile(name)
        return file.read() if file else b""


def _picture(container: EngineContainer) -> Array:
    with np.load(io.BytesIO(_file_in(container, SAMPLE)), allow_pickle=False) as arrays:
        return cast("Array", arrays["inputs"][:1])
