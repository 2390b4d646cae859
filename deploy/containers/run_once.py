"""A container that does one thing and ends: certify, bench, describe, duet. The `docker` command as a value.

Such a container has no network, a read-only root, no capabilities; what it says on stderr is progress for a person.
Knows nothing of what the verbs mean.
"""

import logging
import subprocess
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from os import SEEK_END
from tempfile import TemporaryFile
from typing import IO

from deploy.containers.gpus import gpu_flags
from deploy.docker.engine import client_command, connect, explained
from deploy.docker.labels import ROLE
from deploy.docker.sandbox import STATE, wall_flags
from deploy.images.build import image_here
from toolchain.errors import DockerError

logger = logging.getLogger(__name__)


# The image's health check asks a server; here it would only wake up in the middle of a measurement.
WALL = ("--network=none", "--no-healthcheck", *wall_flags())


def once_command(
    image: str,
    arguments: Sequence[str],
    cpus: float | None = None,
    name: str = "",
    environment: Mapping[str, str] | None = None,
    volume: str = "",
) -> list[str]:
    """argv of `docker run -i --rm` for `image` with `arguments`, behind the wall. cpus: a quota; None: all. volume: of
    the device's state; empty: none."""
    limits = [f"--cpus={cpus:g}"] if cpus else []
    named = [f"--name={name}"] if name else []
    settings = [f"--env={key}={value}" for key, value in (environment or {}).items()]
    labels = [f"--label={ROLE}=once"]
    mounts = [f"--mount=type=volume,src={volume},dst={STATE}"] if volume else []
    flags = [*named, *labels, *WALL, *gpu_flags(image), *limits, *settings, *mounts]
    return [client_command(), "run", "-i", "--rm", *flags, image, *arguments]


def duet_command(
    image: str, threads: int | None, cpus: float | None = None, name: str = "", volume: str = ""
) -> list[str]:
    """argv of a runner in an interleaved measurement (deploy/runtime/certification/interleaved.py): lines of JSON in
    and out. threads: None for as many as its device allows."""
    return once_command(image, ["duet", *([f"--threads={threads}"] if threads else [])], cpus, name, volume=volume)


def run_once(
    image: str,
    arguments: Sequence[str],
    stdin: bytes = b"",
    cpus: float | None = None,
    timeout_s: float = 1800,
    environment: Mapping[str, str] | None = None,
    volume: str = "",
) -> str:
    """What the container wrote on stdout; its stderr is logged as it comes.

    Exit 1 with something on stdout is an answer too: a certificate that failed. DockerError: anything else went wrong.
    """
    with closing(connect()) as client:
        image_here(client, image)
    name = f"edge-once-{uuid.uuid4().hex[:12]}"
    command = once_command(image, arguments, cpus, name, environment, volume)
    with TemporaryFile() as given, TemporaryFile() as written:
        given.write(stdin)
        given.seek(0)
        status, last = _watched(command, name, given, written, timeout_s)
        answered = status == 1 and written.seek(0, SEEK_END)
        if status and not answered:
            raise _failed(f"{image} {' '.join(arguments)}", status, last, timeout_s)
        written.seek(0)
        return written.read().decode()


def _watched(command: list[str], name: str, given: IO[bytes], written: IO[bytes], timeout_s: float) -> tuple[int, str]:
    """(exit status, last line on stderr); interrupted: the container goes too."""
    last = ""
    process = subprocess.Popen(
        command, stdin=given, stdout=written, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    late = threading.Timer(timeout_s, remove, [command[0], name])
    late.start()
    try:
        for line in process.stderr or ():
            logger.info(line.rstrip("\n"))
            last = line.strip() or last
        return process.wait(), last
    finally:
        late.cancel()
        if process.poll() is None:
            remove(command[0], name)
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def remove(client: str, name: str) -> None:
    """End and remove a container of ours by its name; nothing when it is gone already."""
    subprocess.run([client, "rm", "--force", name], capture_output=True, check=False)


def _failed(what: str, status: int, last: str, timeout_s: float) -> DockerError:
    if status == 125:  # docker's own: the container did not start
        return explained(last, what)
    if status == 137:
        return DockerError(
            f"{what}: killed (out of memory, by someone, or not done after {timeout_s:.0f} s): {last[:300]}"
        )
    return DockerError(f"{what}: failed (exit {status}): {last[:400] or 'it said nothing'}")
