"""Runs one command of an image to completion: certify, bench, describe, duet.

The container has no network, a read-only root and no capabilities; its stderr is logged as progress.
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
from deploy.docker.engine import client_command, connect, explain_error
from deploy.docker.labels import ROLE
from deploy.docker.sandbox import STATE, sandbox_flags
from deploy.images.build import require_image
from toolchain.errors import DockerError

logger = logging.getLogger(__name__)


# The health check is for servers; here it would only disturb a measurement.
SANDBOX = ("--network=none", "--no-healthcheck", *sandbox_flags())


def once_command(
    image: str,
    arguments: Sequence[str],
    cpus: float | None = None,
    name: str = "",
    environment: Mapping[str, str] | None = None,
    volume: str = "",
) -> list[str]:
    """argv of `docker run -i --rm` for `image` with `arguments`, sandboxed. cpus: a quota, None: all; volume: of the
    device's state, empty: none."""
    limits = [f"--cpus={cpus:g}"] if cpus else []
    named = [f"--name={name}"] if name else []
    settings = [f"--env={key}={value}" for key, value in (environment or {}).items()]
    labels = [f"--label={ROLE}=once"]
    mounts = [f"--mount=type=volume,src={volume},dst={STATE}"] if volume else []
    flags = [*named, *labels, *SANDBOX, *gpu_flags(image), *limits, *settings, *mounts]
    return [client_command(), "run", "-i", "--rm", *flags, image, *arguments]


def interleaved_command(
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
    """The container's stdout; its stderr is logged line by line.

    Exit status 1 with output is a result too: a certificate that failed. DockerError for any other failure.
    """
    with closing(connect()) as client:
        require_image(client, image)
    name = f"edge-once-{uuid.uuid4().hex[:12]}"
    command = once_command(image, arguments, cpus, name, environment, volume)
    with TemporaryFile() as source, TemporaryFile() as output:
        source.write(stdin)
        source.seek(0)
        status, last = _run_logged(command, name, source, output, timeout_s)
        has_result = status == 1 and output.seek(0, SEEK_END)
        if status and not has_result:
            raise _run_error(f"{image} {' '.join(arguments)}", status, last, timeout_s)
        output.seek(0)
        return output.read().decode()


def _run_logged(
    command: list[str], name: str, source: IO[bytes], output: IO[bytes], timeout_s: float
) -> tuple[int, str]:
    """(exit status, last line of stderr). An interruption removes the container as well."""
    last = ""
    process = subprocess.Popen(
        command, stdin=source, stdout=output, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    late = threading.Timer(timeout_s, remove_container, [command[0], name])
    late.start()
    try:
        for line in process.stderr or ():
            logger.info(line.rstrip("\n"))
            last = line.strip() or last
        return process.wait(), last
    finally:
        late.cancel()
        if process.poll() is None:
            remove_container(command[0], name)
            process.kill()
            process.wait()
        if process.stderr:
            process.stderr.close()


def remove_container(client: str, name: str) -> None:
    """Stop and remove a container by its name; does nothing when there is none."""
    subprocess.run([client, "rm", "--force", name], capture_output=True, check=False)


def _run_error(what: str, status: int, last: str, timeout_s: float) -> DockerError:
    if status == 125:  # docker's own status: the container did not start
        return explain_error(last, what)
    if status == 137:
        return DockerError(
            f"{what}: killed (out of memory, by another process, or not done after {timeout_s:.0f} s): {last[:300]}"
        )
    return DockerError(f"{what}: failed (exit {status}): {last[:400] or 'no message'}")
