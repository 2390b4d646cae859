from pathlib import Path

import pytest

from deploy.docker.engine import connect, explain_error, find_builder, find_clients
from toolchain.errors import DockerError


def fake_client(folder: Path, version: str, buildx: bool) -> str:
    """A `docker` command that says a version and has, or lacks, the buildx plug-in."""
    command = folder / "docker"
    command.write_text(
        "#!/bin/sh\n"
        f'[ "$1" = --version ] && echo "Docker version {version}, build 0" && exit 0\n'
        f'[ "$1" = buildx ] && exit {0 if buildx else 1}\nexit 1\n'
    )
    command.chmod(0o755)
    return str(command)


def test_without_an_engine_the_message_says_where_it_looked_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(
        DockerError,
        match=r"^no Docker Engine at unix:///nowhere/docker\.sock \(there is no such socket\); `make setup`",
    ):
        connect()


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("write /layer.tar: no space left on device", "the disk is full; free some: docker system prune"),
        ("dial unix: connect: permission denied", "sudo usermod -aG docker"),
        ("exec /usr/bin/python3: exec format error", "for another CPU"),
    ],
)
def test_what_the_engine_says_is_told_with_the_next_step(said: str, advice: str) -> None:
    message = str(explain_error(said, "edge-x:1"))
    assert message.startswith("edge-x:1: ")
    assert advice in message
    assert said in message


def test_an_unknown_complaint_is_one_line() -> None:
    assert str(explain_error("first\n  second", "image")) == "image: first second"


def test_a_client_with_the_plug_in_builds_through_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = fake_client(tmp_path, "28.2.2", buildx=True)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_builder()[0] == [command, "buildx", "build", "--load"]


def test_a_client_of_20_10_builds_with_buildkit_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = fake_client(tmp_path, "20.10.24+dfsg1", buildx=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    argv, environment = find_builder()
    assert argv == [command, "build"]
    assert environment["DOCKER_BUILDKIT"] == "1"


def test_a_client_that_cannot_build_is_passed_over_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = fake_client(tmp_path, "28.2.2", buildx=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    others = [other for other in find_clients() if other != command]
    monkeypatch.setattr("deploy.docker.engine.find_clients", lambda: [command])
    with pytest.raises(DockerError, match=r"cannot build with BuildKit; install its plug-in"):
        find_builder()
    assert command not in others
