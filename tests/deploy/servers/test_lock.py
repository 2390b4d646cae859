"""Locks on this machine's own engine, which plays the server's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import docker.errors
import msgspec
import pytest
from docker import DockerClient

from deploy.docker.engine import connect
from deploy.servers.lock import release_lock, take_lock
from deploy.servers.lock_holder import has_ended, new_lock_holder
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


def another(pid: int, host: str = "") -> LockHolder:
    """Somebody else's, of a process on this host or of one elsewhere."""
    mine = new_lock_holder("theirs")
    return msgspec.structs.replace(mine, holder="other", who="bob", pid=pid, host=host or mine.host)


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


def test_a_process_of_another_host_or_of_before_a_restart() -> None:
    assert not has_ended(another(ended(), host="elsewhere"))
    assert has_ended(msgspec.structs.replace(another(os.getpid()), boot="another"))
    assert not has_ended(another(os.getpid()))
