"""An empty Docker Engine, as on a new machine: its own data root, socket and bridge, removed when the block ends."""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BRIDGE, NETWORK = "edgebench0", "10.213.0.1/24"
TIMEOUT_S = 60.0


@contextmanager
def empty_engine(folder: Path) -> Iterator[str]:
    """The DOCKER_HOST of an engine in `folder`; needs root, dockerd and ip. RuntimeError when it does not start."""
    socket, log = folder / "docker.sock", folder / "dockerd.log"
    folder.mkdir(parents=True)
    _ip("link", "add", "name", BRIDGE, "type", "bridge")
    try:
        _ip("addr", "add", NETWORK, "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        command = ["dockerd", f"--data-root={folder / 'data'}", f"--exec-root={folder / 'exec'}", f"--bridge={BRIDGE}"]
        command += [f"--pidfile={folder / 'pid'}", f"--host=unix://{socket}"]
        with log.open("wb") as lines, subprocess.Popen(command, stdout=lines, stderr=lines) as process:
            try:
                _wait(f"unix://{socket}", process, log)
                yield f"unix://{socket}"
            finally:
                process.terminate()
    finally:
        _ip("link", "delete", BRIDGE)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _wait(host: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    until = time.monotonic() + TIMEOUT_S
    environment = {**os.environ, "DOCKER_HOST": host}
    while subprocess.run(["docker", "info"], env=environment, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"dockerd did not start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.2)
