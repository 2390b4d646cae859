"""What a bad engine, port, device or container gets: one line, and what served before goes on serving."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import docker.errors
import pytest
from docker import DockerClient
from docker.models.containers import Container

from tests.bundles import null_bundle
from tests.journeys.conftest import Toolchain, built
from tests.names import own_name
from toolchain.records.manifest import Needs

pytestmark = [pytest.mark.docker, pytest.mark.slow]
NAME = own_name("edge-journey-null")
TAG, OTHER = f"{NAME}:1", f"{NAME}:other-cpu"
ISA = "avx4096"  # of a CPU that has not been built yet


@pytest.fixture(scope="module")
def images(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One that takes seconds until it is certified, and one that needs another CPU."""
    folder = tmp_path_factory.mktemp("images")
    slow = null_bundle(folder / "slow", delay_ms=100.0)
    other = null_bundle(folder / "other", needs=Needs(cpu_isa=(ISA,)))
    with built(engine, folder, {TAG: slow, OTHER: other}):
        yield


@pytest.fixture(autouse=True)
def cleared(engine: DockerClient) -> Iterator[None]:
    yield
    for container in ours(engine):
        container.remove(force=True)


def ours(engine: DockerClient) -> list[Container]:
    return [one for one in engine.containers.list(all=True, ignore_removed=True) if str(one.name).startswith(NAME)]


def test_without_an_engine_every_verb_says_how_to_get_one(
    home: Path, toolchain: Toolchain, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent")
    bundle = null_bundle(tmp_path / "null").folder
    verbs = (
        ("deploy", own / "grey28.toml"), ("image", bundle), ("run", TAG), ("stop", NAME), ("certify", TAG),
        ("bench", TAG), ("show", TAG),
    )  # fmt: skip
    for words in verbs:
        refusal = toolchain(*words).refusal()
        assert refusal.startswith("no Docker Engine at unix:///nonexistent (there is no such socket); `make setup` ")
    assert not home.exists()


def test_a_port_in_use_is_told_and_what_served_before_still_does(
    images: None, engine: DockerClient, toolchain: Toolchain, own: Path, home: Path
) -> None:
    serving = toolchain("run", TAG, "--port=0", f"--name={NAME}").last
    with socket.socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        port = held.getsockname()[1]
        for words in (
            ("run", TAG, f"--name={NAME}"),
            ("run", TAG, f"--name={NAME}-2"),
            ("deploy", own / "grey28.toml"),
        ):
            refusal = toolchain(*words, f"--port={port}").refusal()
            assert refusal.startswith(f"port {port} is in use by python")
            assert refusal.endswith("; stop that, or choose another: --port=…")
    assert [one.id for one in ours(engine)] == [serving["id"]]
    assert engine.containers.get(NAME).status == "running"
    assert not home.exists()


def test_an_image_for_another_cpu_refuses_in_one_line(images: None, engine: DockerClient, toolchain: Toolchain) -> None:
    for words in (("run", OTHER, "--port=0", f"--name={NAME}"), ("bench", OTHER, "--seconds=1")):
        refusal = toolchain(*words).refusal()
        assert ISA in refusal
        assert "build" in refusal
    assert toolchain("show", OTHER).last["needs"]["cpu_isa"] == [ISA]
    certified = toolchain("certify", OTHER)
    assert certified.code == 1
    assert ISA in certified.out + certified.err
    assert "Traceback" not in certified.err
    assert ours(engine) == []


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("kill", f"container '{NAME}' died (exit 137): "),
        ("remove", f"container '{NAME}' was removed while it started; start it again: toolchain run"),
    ],
    ids=["kill", "remove"],
)
def test_a_container_that_is_killed_while_it_starts_is_told(
    images: None, engine: DockerClient, toolchain: Toolchain, how: str, words: str
) -> None:
    def hits() -> None:
        for _ in range(1000):
            with suppress(docker.errors.APIError):
                container = engine.containers.get(NAME)
                if container.status == "running":
                    container.kill() if how == "kill" else container.remove(force=True)
                    return
            time.sleep(0.01)

    killer = threading.Thread(target=hits)
    killer.start()
    refusal = toolchain("run", TAG, "--port=0", f"--name={NAME}").refusal()
    killer.join()
    assert refusal.startswith(words)
    assert ours(engine) == []


def test_an_image_that_is_not_there_is_named(toolchain: Toolchain) -> None:
    for verb in ("run", "certify", "bench", "show"):
        refusal = toolchain(verb, "edge-none:1").refusal(2)
        assert refusal.startswith("edge-none:1: no such image on this engine; build it")
