"""A shell on a server, with an `ssh` that runs the command here: transfers that are cut, changed, and gone on with."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.docker.ssh import LOCAL
from deploy.servers import ssh as shells
from deploy.servers.server import ShipError
from deploy.servers.ssh import FOLDER, Shell
from toolchain.records.storage import digest_of

Ssh = Callable[[str], None]
CONTENT = os.urandom(3_000_000)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """The home folder on the server."""
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def ssh(tmp_path: Path, there: Path, monkeypatch: pytest.MonkeyPatch) -> Ssh:
    """Makes an `ssh` of a line of shell, in which "$command" is what is to run there."""
    place = tmp_path / "bin" / "ssh"
    place.parent.mkdir()
    monkeypatch.setenv("PATH", f"{place.parent}:{os.environ['PATH']}")

    def made(line: str) -> None:
        place.write_text(f"#!/bin/sh\nfor command; do :; done\ncd {there}\n{line}\n")
        place.chmod(0o755)

    made('eval "$command"')
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "image.tar.gz").write_bytes(CONTENT)
    return tmp_path / "image.tar.gz"


def silent(there: int, size: int) -> None:
    assert 0 <= there <= size


@pytest.mark.usefixtures("ssh")
def test_a_command_s_answer_and_its_failure(there: Path) -> None:
    shell = Shell("edge")
    assert shell.run("pwd").strip() == str(there)
    free = shell.free_bytes(".")
    assert free is not None and free > 0
    assert shell.free_bytes("/nowhere/docker") is None  # an engine in a machine of its own has its folders there
    with pytest.raises(ShipError, match=r"edge: `ls nowhere` failed there \(.*nowhere.*\)"):
        shell.run("ls nowhere")
    with pytest.raises(ShipError, match=r"edge: no answer within 0 s"):
        shell.run("sleep 5", timeout_s=0.2)


def test_what_a_login_shell_prints_is_no_answer(ssh: Ssh, file: Path, there: Path) -> None:
    ssh('echo "Welcome to line 2"; echo 4711; eval "$command"')
    shell = Shell("edge", pause_s=0.0)
    assert shell.run("echo 1") == "1\n"
    assert shell.upload(file, silent)[1] == len(CONTENT)
    ssh('echo "This account is not available"')
    with pytest.raises(ShipError, match=r"edge: ssh does not run commands there \(it said 'This account.*edge true"):
        shell.run("echo 1")


def test_output_without_end_is_cut(ssh: Ssh) -> None:
    ssh('eval "$command"; cat /dev/zero')
    with pytest.raises(ShipError, match=r"^edge: `echo 1` prints without end; expected a few lines$"):
        Shell("edge").run("echo 1")
    ssh('printf "\\033]0;title\\007gone" >&2; exit 1')
    with pytest.raises(ShipError, match=r"failed there \(\ufffd\]0;title\ufffdgone\)"):
        Shell("edge").run("echo 1")


@pytest.mark.usefixtures("ssh")
def test_a_file_arrives_whole_once(there: Path, file: Path) -> None:
    shell = Shell("edge")
    place, sent = shell.upload(file, silent)
    assert (sent, (there / place).read_bytes()) == (len(CONTENT), CONTENT)
    assert shell.upload(file, silent) == (place, 0)
    shell.remove_uploads()
    assert list((there / FOLDER).iterdir()) == []


def test_a_transfer_that_is_cut_again_and_again_goes_on_where_it_was(ssh: Ssh, there: Path, file: Path) -> None:
    ssh('case "$command" in *">>"*) head -c 1000000 | eval "$command"; exit 255;; *) eval "$command";; esac')
    place, sent = Shell("edge", pause_s=0.0).upload(file, silent)
    assert (there / place).read_bytes() == CONTENT
    assert sent < 2 * len(CONTENT)  # what was under way when it was cut counts as sent


def test_a_link_that_stays_cut_is_told(ssh: Ssh, file: Path) -> None:
    ssh("exit 255")
    with pytest.raises(ShipError, match=r"edge: .* failed there \(exit 255\)"):
        Shell("edge", pause_s=0.0).upload(file, silent)


@pytest.mark.usefixtures("ssh")
def test_what_arrived_damaged_before_is_sent_again(there: Path, file: Path) -> None:
    part = there / FOLDER / f"{digest_of(file)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"0" * 1000)
    place, sent = Shell("edge", pause_s=0.0).upload(file, silent)
    assert (there / place).read_bytes() == CONTENT
    assert sent == 2 * len(CONTENT) - 1000


def test_the_machine_itself_needs_no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(shells, "PAUSE_S", 0.0)
    place, sent = Shell(LOCAL).upload(file, silent)
    assert ((tmp_path / place).read_bytes(), sent) == (CONTENT, len(CONTENT))
