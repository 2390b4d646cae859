import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.containers import replace
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.readiness import check_ready
from deploy.containers.serve import ServerContainer, run_server
from deploy.images.build import BuiltImage, build_image
from tests.bundles import null_bundle
from tests.names import own_name
from toolchain.errors import DeviceError, DockerError
from toolchain.records.manifest import Needs

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("unnamed")]
NAME = own_name("edge-test-replace")


@pytest.fixture(scope="module")
def newer(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of another release."""
    bundle = null_bundle(tmp_path_factory.mktemp("newer") / "b", release="2")
    yield build_image(bundle, own_name("edge-test-replace-newer:2")).tag
    engine.images.remove(own_name("edge-test-replace-newer:2"), force=True)


@pytest.fixture
def port() -> int:
    return _free()


@pytest.fixture
def serving(image: BuiltImage, port: int) -> ServerContainer:
    return run_server(image.tag, PublishedEndpoint(port), NAME)


def containers(engine: DockerClient) -> dict[str, str]:
    """Image tag by container name."""
    found = [one for one in engine.containers.list(all=True, ignore_removed=True) if str(one.name).startswith(NAME)]
    return {str(one.name): one.attrs["Config"]["Image"] for one in found}


def test_a_release_replaces_what_serves_on_its_port(serving: ServerContainer, newer: str, engine: DockerClient) -> None:
    asked: list[tuple[str, str, bool]] = []
    before = engine.containers.get(NAME).attrs["Image"]

    def gate(new: str, old: str) -> None:
        asked.append((new, old, check_ready(serving.url)[0]))

    replaced = run_server(newer, PublishedEndpoint(int(serving.url.rpartition(":")[2])), NAME, gate=gate)
    assert asked == [(newer, before, True)]  # and the old one serves while it is asked
    assert (replaced.name, replaced.url) == (NAME, serving.url)
    assert containers(engine) == {NAME: newer}
    assert engine.containers.get(NAME).attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_what_serves_answers_all_the_time_where_the_new_one_has_a_port_of_its_own(
    serving: ServerContainer, newer: str, engine: DockerClient
) -> None:
    answers: list[bool] = []
    ended = threading.Event()

    def gate(_new: str, _old: str) -> None:
        ended.set()
        client.join()

    def ask() -> None:
        while not ended.is_set():
            answers.append(check_ready(serving.url)[0])

    client = threading.Thread(target=ask)
    client.start()
    replaced = run_server(newer, PublishedEndpoint(0), NAME, gate=gate)
    assert answers
    assert all(answers)
    assert replaced.url != serving.url
    assert containers(engine) == {NAME: newer}


def refuse(_new: str, _old: str) -> None:
    raise DeviceError("it is slower")


@pytest.mark.parametrize("same_port", [True, False])
def test_what_the_gate_refuses_replaces_nothing(
    serving: ServerContainer, newer: str, engine: DockerClient, port: int, same_port: bool
) -> None:
    with pytest.raises(DeviceError, match=r"^it is slower$"):
        run_server(newer, PublishedEndpoint(port if same_port else 0), NAME, gate=refuse)
    assert engine.containers.get(NAME).id == serving.id
    assert check_ready(serving.url)[0]
    assert list(containers(engine)) == [NAME]


def test_an_image_that_cannot_serve_here_replaces_nothing(
    serving: ServerContainer, port: int, tmp_path: Path, engine: DockerClient
) -> None:
    bad = build_image(null_bundle(tmp_path / "b", needs=Needs(cpu_isa=("avx4096",))), own_name("edge-test:bad"))
    try:
        with pytest.raises(DockerError, match="avx4096"):
            run_server(bad.tag, PublishedEndpoint(port), NAME)
    finally:
        engine.images.remove(bad.tag, force=True)
    assert engine.containers.get(NAME).id == serving.id
    assert check_ready(serving.url)[0]
    assert list(containers(engine)) == [NAME]


@pytest.mark.parametrize("fails", ["create_container", "start_created"])
def test_an_engine_that_fails_after_the_trial_leaves_the_old_one_serving(
    serving: ServerContainer,
    newer: str,
    port: int,
    engine: DockerClient,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
) -> None:
    def fail(*_: object) -> None:
        raise DockerError("the engine lost its bridge")

    monkeypatch.setattr(replace, fails, fail)
    with pytest.raises(DockerError, match=r"^the engine lost its bridge"):
        run_server(newer, PublishedEndpoint(port), NAME)
    assert engine.containers.get(NAME).id == serving.id
    assert check_ready(serving.url)[0]
    assert list(containers(engine)) == [NAME]


def test_both_stay_when_their_ports_differ(
    image: BuiltImage, newer: str, engine: DockerClient, messages: list[str]
) -> None:
    ports = [_free() for _ in range(2)]
    first = run_server(image.tag, PublishedEndpoint(ports[0]), default_name=NAME)
    second = run_server(newer, PublishedEndpoint(ports[1]), default_name=NAME)
    assert (first.name, second.name) == (NAME, f"{NAME}-{ports[1]}")
    assert f"container: {NAME} stays on its port; this one is {NAME}-{ports[1]}" in messages
    assert all(check_ready(one.url)[0] for one in (first, second))
    # and each is found again by its port
    assert run_server(newer, PublishedEndpoint(ports[1]), default_name=NAME).id == second.id
    again = run_server(newer, PublishedEndpoint(ports[0]), default_name=NAME)
    assert (again.name, again.url) == (NAME, first.url)
    assert containers(engine) == {NAME: newer, f"{NAME}-{ports[1]}": newer}


def test_what_an_interrupted_run_left_is_removed(
    serving: ServerContainer, newer: str, port: int, engine: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(replace, "remove_container_now", lambda _: None)
        patch.setattr(replace, "_run_gate", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run_server(newer, PublishedEndpoint(port), NAME)
    assert set(containers(engine)) == {NAME, f"{NAME}-new"}
    run_server(newer, PublishedEndpoint(port), NAME)
    assert containers(engine) == {NAME: newer}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
