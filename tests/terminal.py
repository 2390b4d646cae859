"""What a command writes on stderr when that is a terminal."""

import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path


def on_terminal(command: Sequence[str], cwd: Path) -> str:
    """CalledProcessError when it fails."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, cwd=cwd, stderr=theirs, env=os.environ | {"TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 4096):
                shown += part
        except OSError:  # Linux reports the other end's close so
            pass
    os.close(ours)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=shown)
    return shown.decode()
