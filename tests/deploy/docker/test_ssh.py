"""Another machine's engine over a real sshd on loopback; only where ssh finds its settings is ours."""

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from deploy.docker.engine import connect
from deploy.docker.ssh import engine_on
from toolchain.errors import DockerError, UsageError

SSHD = "/usr/sbin/sshd"
HOST = "edge-test-host"


@pytest.fixture
def edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a host that ssh's settings lead to a server of our own."""
    if not Path(SSHD).exists():
        pytest.skip("no sshd here: apt-get install openssh-server")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True)
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    settings = f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/authorized\nStrictModes no\nPidFile none\n"
    (tmp_path / "sshd").write_text(f"{settings}ListenAddress 127.0.0.1:{port}\n")
    known = f"StrictHostKeyChecking no\nUserKnownHostsFile {tmp_path}/known\nLogLevel ERROR\n"
    to = f"HostName 127.0.0.1\nPort {port}\nUser {getpass.getuser()}\nIdentityFile {tmp_path}/user\n"
    (tmp_path / "config").write_text(f"Host {HOST}\n{to}{known}")
    command = tmp_path / "bin" / "ssh"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {tmp_path}/config "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:{os.environ['PATH']}")
    with subprocess.Popen([SSHD, "-D", "-f", str(tmp_path / "sshd")], stderr=subprocess.DEVNULL) as server:
        _wait_for(port)
        yield HOST
        server.terminate()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)


def tunnels(folder: Path) -> int:
    """By the settings in `folder`: other tests have theirs."""
    found = subprocess.run(
        ["pgrep", "-fc", f"ssh -F {folder}/config .*docker.sock"], capture_output=True, text=True, check=False
    )
    return int(found.stdout)


@pytest.mark.docker
def test_an_engine_behind_ssh_answers_as_if_it_were_here(edge: str, tmp_path: Path) -> None:
    with closing(connect()) as client:
        here = client.info()["ID"]
    before = os.environ.get("DOCKER_HOST")
    with engine_on(edge):
        assert os.environ["DOCKER_HOST"].startswith("unix://")
        with closing(connect()) as client:
            assert client.info()["ID"] == here  # one engine stands for both ends
        said = subprocess.run(["docker", "info", "--format", "{{.ID}}"], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == here
    assert os.environ.get("DOCKER_HOST") == before
    assert tunnels(tmp_path) == 0


def test_what_goes_wrong_within_leaves_no_tunnel(edge: str, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), engine_on(edge):
        raise ZeroDivisionError
    assert "DOCKER_HOST" not in os.environ or not os.environ["DOCKER_HOST"].startswith("unix:///tmp/edge-")
    assert tunnels(tmp_path) == 0


def test_a_host_that_cannot_be_reached_is_told_in_ssh_s_words(edge: str) -> None:
    with (
        pytest.raises(DockerError, match=r"nobody@127.0.0.1: ssh failed \(.*\); try: ssh nobody@127.0.0.1 docker ver"),
        engine_on("nobody@127.0.0.1"),
    ):
        pass
    for host in ("", "-oProxyCommand=rm", "a b"):
        with pytest.raises(UsageError, match="expected HOST, USER@HOST"), engine_on(host):
            pass


def test_without_a_host_nothing_changes() -> None:
    before = os.environ.get("DOCKER_HOST")
    with engine_on(None):
        assert os.environ.get("DOCKER_HOST") == before
