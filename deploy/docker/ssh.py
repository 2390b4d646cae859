"""Another machine's Docker Engine, reached through ssh with the user's own settings.

A tunnel forwards the engine's socket to this machine, so that the SDK and the `docker` command can both use it,
whatever is in ~/.ssh/config (jump hosts, keys, ports).
"""

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toolchain.errors import DockerError, UsageError, printable

SOCKET = "/var/run/docker.sock"
LOCAL = "local"  # an address that needs no ssh
CONNECT_S = 20
# nobody can type a password here, and a tunnel that fails must end, not hang
OPTIONS = ("-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", f"ConnectTimeout={CONNECT_S}")
# what no shell, no ssh_config and no option parser reads as anything but a name
ADDRESS = re.compile(r"(ssh://)?{0}(@{0})*".format(r"[A-Za-z0-9_.:\[][A-Za-z0-9_.:+\[\]-]*"))
SOCKET_PATH = re.compile(r"/[A-Za-z0-9_.,+@/-]+")
ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ControlMaster=no", "-o", "ControlPath=none")


def is_address(text: str) -> bool:
    """Whether ssh takes it for a machine (HOST, USER@HOST, ssh://HOST:PORT, or a name from ~/.ssh/config), and no shell
    and no line of ssh_config could read it as anything else."""
    return bool(ADDRESS.fullmatch(text))


def is_socket_path(text: str) -> bool:
    """Whether it is an absolute path that `ssh -L` can forward to."""
    return bool(SOCKET_PATH.fullmatch(text))


@contextmanager
def engine_on(host: str | None) -> Iterator[None]:
    """Inside the block, connect() and `docker` use the engine of `host` (HOST, USER@HOST or a name from ~/.ssh/config);
    None: this machine's engine. DockerError carries ssh's own message."""
    if host is None:
        yield
        return
    if not is_address(host):
        raise UsageError(f"--on={host}: expected HOST, USER@HOST, or a name from ~/.ssh/config")
    before = os.environ.get("DOCKER_HOST")
    with tunnel_to(host) as url:
        try:
            os.environ["DOCKER_HOST"] = url
            yield
        finally:
            _restore(before)


@contextmanager
def tunnel_to(host: str, socket: str = SOCKET) -> Iterator[str]:
    """The URL of a local socket that forwards to the engine's `socket` on `host`."""
    if host == LOCAL:
        yield f"unix://{socket}"
        return
    with (
        tempfile.TemporaryDirectory(prefix="edge-") as folder,
        tempfile.TemporaryFile("w+", errors="replace") as errors,
    ):
        local = Path(folder) / "docker.sock"
        command = ["ssh", "-NT", *OPTIONS, *ALIVE, "-L", f"{local}:{socket}", "--", host]
        # in a session of its own: Ctrl-C must not close it before the containers over there are removed
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True
        ) as tunnel:
            try:
                _wait_for_socket(tunnel, local, host, errors)
                yield f"unix://{local}"
            finally:
                tunnel.terminate()


def _wait_for_socket(tunnel: "subprocess.Popen[bytes]", local: Path, host: str, errors: IO[str]) -> None:
    end = time.monotonic() + CONNECT_S + 5
    while not local.exists():
        if tunnel.poll() is not None or time.monotonic() > end:
            errors.seek(0)
            # a banner goes before the message
            reason = printable(" ".join(errors.read().split()))[-200:] or "no message"
            raise DockerError(f"{host}: ssh failed ({reason}); try: ssh {host} docker version")
        time.sleep(0.05)


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop("DOCKER_HOST", None)
    else:
        os.environ["DOCKER_HOST"] = before
