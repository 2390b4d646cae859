"""Completion, asked for by the shells themselves: keys are pressed in a terminal and what they wrote is read."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from toolchain.cli import COMMANDS
from toolchain.cli.completion import completion_script

ASKED = [
    ("bu", "build"),
    ("build --target=tensor", "build --target=tensorrt"),
    ("build own.toml --rel", "build own.toml --release="),
    ("data ", "data fetch"),
    ("data fetch ci", "data fetch cifar10"),
    ("image ow", "image own.toml"),
    ("image sbom x --out=ow", "image sbom x --out=own.toml"),
]
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
}
READY = "ready:"


def press(shell: str, script: Path, folder: Path, typed: str) -> str:
    """The line that stands after Tab was pressed behind `typed`, printed by the shell itself."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "vt100", "PS1": "> "}
    with subprocess.Popen(
        START[shell], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment, start_new_session=True
    ) as process:
        os.close(theirs)
        begin = "autoload -U compinit; compinit -D -u; " if shell == "zsh" else "bind 'set bell-style none'; "
        try:
            os.write(ours, f"{begin}source {script}; echo {READY[0]}'{READY[1:]}'\n".encode())
            read_until(ours, READY)
            os.write(ours, f"{typed}\t".encode())
            time.sleep(0.5)  # what Tab wrote is not told apart from what was typed
            os.write(ours, b"\x01echo '<\x05>'\n")
            return re.findall(r"<([^<>]*)>\r\n", read_until(ours, ">\r\n"))[-1].strip()
        finally:
            process.kill()
            os.close(ours)


def read_until(terminal: int, end: str) -> str:
    shown = ""
    while end not in shown:
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


@pytest.mark.parametrize(("typed", "completed"), ASKED, ids=[typed for typed, _ in ASKED])
@pytest.mark.parametrize("shell", START)
def test_tab_completes_commands_flags_choices_and_files(tmp_path: Path, shell: str, typed: str, completed: str) -> None:
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    (tmp_path / "own.toml").touch()
    script = tmp_path / "script"
    script.write_text(completion_script(COMMANDS, shell))
    assert press(shell, script, tmp_path, f"toolchain {typed}") == f"toolchain {completed}"


@pytest.mark.skipif(not shutil.which("fish"), reason="no fish here")
@pytest.mark.parametrize(("typed", "completed"), ASKED, ids=[typed for typed, _ in ASKED])
def test_fish_completes_the_same(tmp_path: Path, typed: str, completed: str) -> None:
    (tmp_path / "own.toml").touch()
    script = tmp_path / "script"
    script.write_text(completion_script(COMMANDS, "fish"))
    command = ["fish", "--no-config", "-c", f"source {script}; complete -C 'toolchain {typed}'"]
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"HOME": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert completed.rsplit(maxsplit=1)[-1].rstrip("=") in offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_and_flag_is_in_the_script(shell: str) -> None:
    script = completion_script(COMMANDS, shell)
    assert [word for word in " ".join(COMMANDS).split() if word not in script] == []
    assert ("skip-gate" in script, "no-such-flag" in script) == (True, False)


def test_a_script_is_written_without_loading_a_library() -> None:
    program = "import sys; from toolchain.cli.completion import completion_script; from toolchain.cli import COMMANDS\n"
    program += "completion_script(COMMANDS, 'bash'); print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
