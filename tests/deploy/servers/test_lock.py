"""Locks on this machine's own engine, which plays the server's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import docker.errors
import msgspec
import pytest
from docker import DockerClient

from deploy.docker.engine import connect
from deploy.docker.idle_container import create_idle_container
from deploy.servers import lock_holder
from deploy.servers.lock import HOLDER_LABEL, release_lock, take_lock
from deploy.servers.lock_holder import HOST_NAMESPACE, has_ended, new_lock_holder
from deploy.servers.release_image import lock_name
from deploy.servers.server import LockedError, LockHolder
from tests.names import own_name

pytestmark = pytest.mark.docker
MODEL = own_name("test-of-locks")


@pytest.fixture
def client() -> Iterator[DockerClient]:
    with closing(connect()) as found:
        yield found
        for one in found.containers.list(all=True, filters={"name": lock_name(MODEL)}):
            one.remove(force=True)


def another(pid: int, **changes: str) -> LockHolder:
    """Somebody else's, of a process on this host unless `changes` say otherwise."""
    started = msgspec.structs.replace(new_lock_holder("theirs"), holder="other", who="bob", pid=pid, **changes)
    return started if pid == os.getpid() else msgspec.structs.replace(started, started="1")


def ended() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_one_of_two_has_the_lock_until_it_is_given_back(client: DockerClient) -> None:
    mine, theirs = new_lock_holder("mine"), another(os.getpid())
    take_lock(client, "line-1", MODEL, theirs)
    with pytest.raises(LockedError, match=r"line-1: locked by bob on .+; if that run is gone: toolchain unlock line-1"):
        take_lock(client, "line-1", MODEL, mine)
    release_lock(client, lock_name(MODEL), mine)
    assert client.containers.get(lock_name(MODEL)).status == "created"
    release_lock(client, lock_name(MODEL), theirs)
    with pytest.raises(docker.errors.NotFound):
        client.containers.get(lock_name(MODEL))
    take_lock(client, "line-1", MODEL, mine)
    release_lock(client, lock_name(MODEL), mine)


def test_the_lock_of_a_run_that_is_gone_is_taken_and_that_is_said(client: DockerClient, messages: list[str]) -> None:
    take_lock(client, "line-1", MODEL, another(ended()))
    take_lock(client, "line-1", MODEL, new_lock_holder("mine"))
    assert messages == ["line-1: taking the lock of bob, whose run ended without releasing it"]


def test_a_run_is_known_to_have_ended_only_where_it_could_be_seen() -> None:
    assert has_ended(another(ended()))
    assert not has_ended(another(os.getpid()))
    assert has_ended(another(os.getpid(), started="1"))  # its number is another process's by now
    for elsewhere in ({"namespace": "pid:[1]"}, {"boot": "another", "host": "elsewhere"}, {"namespace": ""}):
        assert not has_ended(another(ended(), **elsewhere))


@pytest.mark.parametrize(
    ("namespace", "machine", "gone"),
    [
        (HOST_NAMESPACE, "m1", True),
        (HOST_NAMESPACE, "m2", False),
        (HOST_NAMESPACE, "", False),
        ("pid:[7]", "m1", False),
    ],
)
def test_a_restart_ends_what_ran_on_this_machine_but_not_in_a_container(
    namespace: str, machine: str, gone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "machine-id").write_text("m1\n")
    (tmp_path / "pid").symlink_to(namespace)
    monkeypatch.setattr(lock_holder, "MACHINE", tmp_path / "machine-id")
    monkeypatch.setattr(lock_holder, "NAMESPACE", tmp_path / "pid")
    assert has_ended(another(os.getpid(), boot="before", machine=machine)) is gone


NEW_HOLDER = (
    "import msgspec; from deploy.servers.lock_holder import new_lock_holder;"
    "print(msgspec.json.encode(new_lock_holder('theirs')).decode(), flush=True); input()"
)


def test_two_containers_with_one_hostname_do_not_take_each_other_s_lock(client: DockerClient) -> None:
    """Each has processes of its own: the number of the run that holds the lock is nobody's here."""
    inside = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", NEW_HOLDER]
    with subprocess.Popen(inside, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        theirs = msgspec.json.decode(process.stdout.readline(), type=LockHolder)
        take_lock(client, "line-1", MODEL, theirs)
        assert theirs.host == new_lock_holder("mine").host
        with pytest.raises(LockedError, match=r"locked by .+; if that run is gone: toolchain unlock line-1"):
            take_lock(client, "line-1", MODEL, new_lock_holder("mine"))
        process.communicate("\n")


@pytest.mark.parametrize("label", [{}, {HOLDER_LABEL: "{"}, {HOLDER_LABEL: '{"holder": 1}'}])
def test_a_lock_that_does_not_say_whose_it_is_is_nobody_s_to_take(client: DockerClient, label: dict[str, str]) -> None:
    create_idle_container(client, lock_name(MODEL), label, ())
    with pytest.raises(LockedError, match=r"line-1: locked by nobody knows whom .*toolchain unlock line-1$"):
        take_lock(client, "line-1", MODEL, new_lock_holder("mine"))
