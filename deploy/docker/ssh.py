"""Another machine's Docker Engine, reached through ssh as its user's own settings say.

A tunnel carries the engine's socket here, so that the SDK and the `docker` command both speak to it, whatever is in
~/.ssh/config (jump hosts, keys, ports). Knows nothing of what is asked of the engine.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from toolchain.errors import DockerError, UsageError

SOCKET = "/var/run/docker.sock"
LOCAL = "local"  # an address that needs no ssh
CONNECT_S = 20
# no password can be typed here, and a tunnel that cannot be made must end, not hang
OPTIONS = ("-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-o", f"ConnectTimeout={CONNECT_S}")
ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ControlMaster=no", "-o", "ControlPath=none")


@contextmanager
def engine_on(host: str | None) -> Iterator[None]:
    """Within the block, connect() and `docker` speak to the engine of `host` (HOST, USER@HOST or a name of
    ~/.ssh/config); None: to this machine's. DockerError says what ssh said."""
    if host is None:
        yield
        return
    if not host or host.startswith("-") or any(letter.isspace() for letter in host):
        raise UsageError(f"--on={host}: expected HOST, USER@HOST, or a name of ~/.ssh/config")
    before = os.environ.get("DOCKER_HOST")
    with tunnel_to(host) as url:
        try:
            os.environ["DOCKER_HOST"] = url
            yield
        finally:
            _restore(before)


@contextmanager
def tunnel_to(host: str, socket: str = SOCKET) -> Iterator[str]:
    """The URL of a socket here that leads to the engine's `socket` on `host`."""
    if host == LOCAL:
        yield f"unix://{socket}"
        return
    with tempfile.TemporaryDirectory(prefix="edge-") as folder, tempfile.TemporaryFile("w+") as said:
        near = Path(folder) / "docker.sock"
        command = ["ssh", "-NT", *OPTIONS, *ALIVE, "-L", f"{near}:{socket}", "--", host]
        # of a session of its own: Ctrl-C must not cut it before the containers there are ended
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=said, start_new_session=True) as tunnel:
            try:
                _wait(tunnel, near, host, said)
                yield f"unix://{near}"
            finally:
                tunnel.terminate()


def _wait(tunnel: "subprocess.Popen[bytes]", near: Path, host: str, said: IO[str]) -> None:
    end = time.monotonic() + CONNECT_S + 5
    while not near.exists():
        if tunnel.poll() is not None or time.monotonic() > end:
            said.seek(0)
            words = " ".join(said.read().split())[:200] or "it said nothing"
            raise DockerError(f"{host}: no ssh to it ({words}); try: ssh {host} docker version")
        time.sleep(0.05)


def _restore(before: str | None) -> None:
    if before is None:
        os.environ.pop("DOCKER_HOST", None)
    else:
        os.environ["DOCKER_HOST"] = before
