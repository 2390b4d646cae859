"""The Docker Engine: connecting to it, and the `docker` command that can build with BuildKit. Knows no models.

The `docker` SDK covers the engine's API; the `docker` command is used only for what the SDK cannot do: BuildKit builds
and containers that read standard input.
"""

import os
import subprocess
from pathlib import Path
from shutil import which

import docker
from docker import DockerClient
from docker.errors import DockerException

from toolchain.errors import DockerError
from toolchain.installation import engine_command

INSTALL_DOCS = "docs.docker.com/engine/install"
INSTALL = f"`{engine_command()}` installs and starts one as root on Debian or Ubuntu; elsewhere see {INSTALL_DOCS}"
ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
# Text in an engine's error -> what to do about it. The first match wins.
KNOWN_ERRORS = (
    ("no space left on device", "the disk is full; free some: docker system prune"),
    ("disk quota exceeded", "the disk quota is used up; free some: docker system prune"),
    ("permission denied", "no permission; join the group and log in again: sudo usermod -aG docker $USER"),
    ("no such image", "no such image; make it: toolchain image"),
    ("exec format error", "the image is for another CPU than this machine's; build it here: toolchain image"),
)


def connect() -> DockerClient:
    """A client whose engine answered a ping; DockerError says what to install or start."""
    place = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if place.startswith("unix://") and not Path(place.removeprefix("unix://")).exists():
        raise DockerError(f"no Docker Engine at {place} (there is no such socket); {INSTALL}")
    try:
        client = docker.from_env(timeout=120)
        client.ping()
    except (DockerException, OSError) as error:
        if "permission denied" in str(error).lower():
            raise explain_error(error, place) from error
        raise DockerError(f"no Docker Engine at {place} (it does not answer: {str(error)[:120]}); {INSTALL}") from error
    return client


def explain_error(error: Exception | str, what: str) -> DockerError:
    """The engine's error in one line, with the next step where it is known."""
    text = " ".join(str(getattr(error, "explanation", None) or error).split())
    for words, advice in KNOWN_ERRORS:
        if words in text.lower():
            return DockerError(f"{what}: {advice} (the engine said: {text[:200]})")
    return DockerError(f"{what}: {text[:400]}")


def is_same_architecture(first: str, second: str) -> bool:
    """Whether two architecture names mean the same processor: images (amd64) and kernels (x86_64) name it
    differently."""
    return ARCHITECTURES.get(first, first) == ARCHITECTURES.get(second, second)


def find_clients() -> list[str]:
    """Every `docker` command on PATH and in /usr/bin, each once."""
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/bin"]
    commands = [which("docker", path=folder) for folder in folders if folder]
    return list(dict.fromkeys(command for command in commands if command))


def client_command() -> str:
    """The `docker` command; DockerError when there is none."""
    return next(iter(find_clients()), "") or _no_client()


def is_podman(client: DockerClient) -> bool:
    """Whether the engine is Podman's Docker-compatible service."""
    return any(part.get("Name") == "Podman Engine" for part in client.version().get("Components") or ())


def find_builder(podman: bool = False) -> tuple[list[str], dict[str, str]]:
    """(command, environment) that build with BuildKit: by buildx, or by a 20.10 to 22 client alone. Podman has none of
    it, and builds the same files when it is asked as engines were before BuildKit."""
    if podman:
        return [client_command(), "build"], {**os.environ, "DOCKER_BUILDKIT": "0"}
    plain = {**os.environ, "DOCKER_BUILDKIT": "1"}
    for command in find_clients():
        if _succeeds(command, "buildx", "version"):
            return [command, "buildx", "build", "--load"], plain
        if 18 <= _major_version(command) < 23:
            return [command, "build"], plain
    if not find_clients():
        _no_client()
    raise DockerError(
        f"{find_clients()[0]} cannot build with BuildKit; install its plug-in: docker-buildx or docker-buildx-plugin"
    )


def _no_client() -> str:
    raise DockerError(f"no `docker` command on PATH; {INSTALL}")


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _major_version(command: str) -> int:
    """`Docker version 20.10.24+dfsg1, build 297e128` -> 20; 0 for any other output."""
    words = subprocess.run([command, "--version"], capture_output=True, text=True, check=False).stdout.split()
    number = words[2].split(".")[0] if len(words) > 2 else ""
    return int(number) if number.isdigit() else 0
