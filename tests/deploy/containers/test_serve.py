import os
import signal
import socket
import time

import pytest
from docker import DockerClient

from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.readiness import check_ready
from deploy.containers.serve import run_server, stop_server
from deploy.images.build import BuiltImage, build_image
from tests.bundles import null_bundle
from tests.names import own_name
from toolchain.errors import DockerError
from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Needs

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("unnamed")]
NAME = own_name("edge-test-server")


def test_a_container_is_started_kept_replaced_and_stopped(
    image: BuiltImage, bundle: Bundle, messages: list[str], engine: DockerClient
) -> None:
    first = run_server(image.tag, PublishedEndpoint(0), NAME)
    assert first.cold_start_s is not None and 0 < first.cold_start_s < 30
    assert first.bundle == bundle.digest
    assert _hosts(engine) == {"127.0.0.1"}
    assert "container: only this machine reaches it; for others: --public" in messages
    kept = run_server(image.tag, PublishedEndpoint(0), NAME)
    assert (kept.id, kept.cold_start_s) == (first.id, None)
    replaced = run_server(image.tag, PublishedEndpoint(0, is_public=True), NAME, cpus=1)
    assert "0.0.0.0" in _hosts(engine)
    assert replaced.id != first.id
    assert f"container: replacing {NAME} (running)" in messages
    assert stop_server(NAME)
    assert not stop_server(NAME)


def _hosts(engine: DockerClient) -> set[str]:
    """The addresses of this machine on which the container is published."""
    ports = engine.containers.get(NAME).attrs["NetworkSettings"]["Ports"]
    return {binding["HostIp"] for bindings in ports.values() for binding in bindings or ()}


def test_a_server_that_is_killed_is_started_again(image: BuiltImage, engine: DockerClient) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = run_server(image.tag, PublishedEndpoint(port), NAME)
    container = engine.containers.get(started.id)
    process = container.attrs["State"]["Pid"]
    os.kill(process, signal.SIGKILL)
    end = time.monotonic() + 30
    while container.attrs["State"]["Pid"] in (0, process) or not check_ready(started.url)[0]:
        assert time.monotonic() < end
        time.sleep(0.05)
        container.reload()
    assert container.attrs["RestartCount"] == 1


def test_the_container_is_sandboxed(image: BuiltImage, engine: DockerClient) -> None:
    started = run_server(image.tag, PublishedEndpoint(0), NAME)
    settings = engine.containers.get(started.id).attrs["HostConfig"]
    assert settings["ReadonlyRootfs"]
    assert settings["CapDrop"] == ["ALL"]
    assert settings["SecurityOpt"] == ["no-new-privileges:true"]
    assert settings["PidsLimit"] == 512
    assert settings["Memory"] > 0


def test_a_foreign_container_is_left_alone(image: BuiltImage, engine: DockerClient) -> None:
    other = engine.containers.create(image.id, name=NAME)
    for verb in (lambda: run_server(image.tag, PublishedEndpoint(0), NAME), lambda: stop_server(NAME)):
        with pytest.raises(
            DockerError, match=rf"^container '{NAME}' was not created by this toolchain; choose another name"
        ):
            verb()
    other.reload()
    assert other.status == "created"


def test_a_port_in_use_is_reported_with_its_holder(image: BuiltImage, engine: DockerClient) -> None:
    with socket.socket() as held:
        held.bind(("0.0.0.0", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(DockerError, match=rf"^port {port} is in use by python\S* \(process \d+\); stop that"):
            run_server(image.tag, PublishedEndpoint(port), NAME)
    assert not [
        container for container in engine.containers.list(all=True, ignore_removed=True) if container.name == NAME
    ]
    run_server(image.tag, PublishedEndpoint(port), f"{NAME}-a")
    with pytest.raises(DockerError, match=rf"^port {port} is in use by container '{NAME}-a'"):
        run_server(image.tag, PublishedEndpoint(port), f"{NAME}-b")


def test_a_missing_image_is_named() -> None:
    with pytest.raises(DockerError, match=r"^edge-none:1: no such image on this engine; build it: toolchain image$"):
        run_server("edge-none:1", PublishedEndpoint(0), NAME)


def test_a_container_that_dies_is_removed_and_its_log_quoted(
    tmp_path_factory: pytest.TempPathFactory, engine: DockerClient
) -> None:
    bundle = null_bundle(tmp_path_factory.mktemp("dies") / "b", needs=Needs(cpu_isa=("avx4096",)))
    built = build_image(bundle, own_name("edge-test:dies"))
    with pytest.raises(DockerError, match=rf"container '{NAME}' died \(exit 1\): .*avx4096"):
        run_server(built.tag, PublishedEndpoint(0), NAME)
    engine.images.remove(built.tag, force=True)
    assert not [
        container for container in engine.containers.list(all=True, ignore_removed=True) if container.name == NAME
    ]
