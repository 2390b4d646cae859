"""The Docker Engine: who answers, and which command can build with BuildKit. Knows nothing of models.

The `docker` SDK speaks to the engine's API; the `docker` command is used only where that cannot: builds (BuildKit) and
containers that read standard input.
"""

import os
import subprocess
from pathlib import Path
from shutil import which

import docker
from docker import DockerClient
from docker.errors import DockerException

from toolchain.errors import DockerError

INSTALL = (
    "`make setup` installs and starts one as root on Debian or Ubuntu; elsewhere see docs.docker.com/engine/install"
)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
# What engines say -> what a person does about it. The first that is found in the engine's words wins.
KNOWN = (
    ("no space left on device", "the disk is full; free some: docker system prune"),
    ("disk quota exceeded", "the disk quota is used up; free some: docker system prune"),
    ("permission denied", "no permission; join the group and log in again: sudo usermod -aG docker $USER"),
    ("no such image", "no such image; make it: toolchain image"),
    ("exec format error", "the image is for another CPU than this machine's; build it here: toolchain image"),
)


def connect() -> DockerClient:
    """A client whose engine has answered; DockerError says what to install or start."""
    place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if place.startswith("unix://") and not Path(place.removeprefix("unix://")).exists():
        raise DockerError(f"no Docker Engine at {place} (there is no such socket); {INSTALL}")
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except (DockerException, OSError) as error:
        if "permission denied" in str(error).lower():
            raise explained(error, place) from error
        raise DockerError(f"no Docker Engine at {place} (it does not answer: {str(error)[:120]}); {INSTALL}") from error
    return client


def explained(error: Exception | str, what: str) -> DockerError:
    """The engine's error as one line, with the next step where we know it."""
    text = " ".join(str(getattr(error, "explanation", None) or error).split())
    for words, advice in KNOWN:
        if words in text.lower():
            return DockerError(f"{what}: {advice} (the engine said: {text[:200]})")
    return DockerError(f"{what}: {text[:400]}")


def same_machine(one: str, other: str) -> bool:
    """Whether two names of a processor's architecture mean the same: images and kernels have their own."""
    return MACHINES.get(one, one) == MACHINES.get(other, other)


def clients() -> list[str]:
    """Every `docker` command on PATH and in the usual place, each once."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
    found = [which("docker", path=folder) for folder in folders if folder]
    return list(dict.fromkeys(command for command in found if command))


def client_command() -> str:
    """The `docker` command; DockerError when there is none."""
    return next(iter(clients()), "") or _no_client()


def builder() -> tuple[list[str], dict[str, str]]:
    """The command and environment that build with BuildKit: through buildx, or a client of 20.10 to 22 by itself."""
    plain = {**os.environ, "DOCKER_BUILDKIT": "1"}
    for command in clients():
        if _answers(command, "buildx", "version"):
            return [command, "buildx", "build", "--load"], plain
        if 18 <= _major(command) < 23:
            return [command, "build"], plain
    if not clients():
        _no_client()
    raise DockerError(
        f"{clients()[0]} cannot build with BuildKit; install its plug-in: docker-buildx or docker-buildx-plugin"
    )


def _no_client() -> str:
    raise DockerError(f"no `docker` command on PATH; {INSTALL}")


def _answers(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _major(command: str) -> int:
    """`Docker version 20.10.24+dfsg1, build 297e128` -> 20; 0 when it says something else."""
    words = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout.split()
    number = words[2].split(".")[0] if len(words) > 2 else ""
    return int(number) if number.isdigit() else 0
