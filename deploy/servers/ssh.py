"""A POSIX shell on a server, through ssh, and files brought to it: a transfer that was cut goes on where it was.

Needs sh, cat, wc, sha256sum, df and mkdir there, which every Linux has. Knows nothing of Docker.
"""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote
from tempfile import TemporaryFile

from deploy.docker.ssh import ALIVE, LOCAL, OPTIONS
from deploy.servers.server import ShipError
from toolchain.errors import printable
from toolchain.records.storage import digest_of

BLOCK = 256 << 10
ANSWER_BYTES = 1 << 20  # of what a command prints
TRIES, PAUSE_S = 6, 5.0  # a link that is cut for half a minute is waited for
FOLDER = ".cache/edge-toolchain"
OnProgress = Callable[[int, int], None]  # (bytes there, of how many)


class Shell:
    """Commands on `address` (as ssh takes it)."""

    def __init__(self, address: str, pause_s: float = PAUSE_S) -> None:
        self.address, self._pause_s = address, pause_s

    def run(self, command: str, timeout_s: float = 60) -> str:
        """What it printed; ShipError with what it said on stderr. What a login shell prints before it is dropped."""
        mark = f"edge-{uuid.uuid4().hex}"
        code, output, errors = self._ssh(command, mark, timeout_s)
        if code:
            said = printable(" ".join(errors.decode(errors="replace").split()))[-300:] or f"exit {code}"
            raise ShipError(f"{self.address}: `{command[:60]}` failed there ({said})")
        _, begun, answer = output.partition(f"{mark}\n".encode())
        if not begun:
            said = printable(output[:60].decode(errors="replace"))
            raise ShipError(
                f"{self.address}: ssh does not run commands there (it said {said!r}); try: ssh {self.address} true"
            )
        return answer.decode(errors="replace")

    def _ssh(self, command: str, mark: str, timeout_s: float) -> tuple[int, bytes, bytes]:
        """(exit status, stdout with `mark` before what the command printed, the end of stderr)."""
        argv, late = self._argv(f"echo {mark}; {command}"), threading.Event()
        with (
            TemporaryFile() as errors,
            subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, start_new_session=True
            ) as process,
        ):
            assert process.stdout
            timer = threading.Timer(timeout_s, _end_late, (process, late))
            timer.start()
            try:
                output = process.stdout.read(ANSWER_BYTES + 1)
                if len(output) > ANSWER_BYTES:
                    raise ShipError(f"{self.address}: `{command[:60]}` prints without end; expected a few lines")
                code = process.wait()
            finally:
                timer.cancel()
                _kill_group(process)
            if late.is_set():
                raise ShipError(f"{self.address}: no answer within {timeout_s:.0f} s to `{command[:60]}`")
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4096))
            return code, output, errors.read()

    def _argv(self, command: str) -> list[str]:
        if self.address == LOCAL:
            return ["sh", "-c", f"cd && {command}"]
        return ["ssh", "-T", *OPTIONS, *ALIVE, "--", self.address, f"sh -c {quote(command)}"]

    def free_bytes(self, folder: str) -> int | None:
        """Room on the disk of `folder`, for who is no root; None when there is no such folder."""
        fields = self.run(f"df -Pk {quote(folder)} 2>/dev/null | tail -n 1").split()
        return 1024 * int(fields[3]) if len(fields) >= 6 and fields[3].isdigit() else None

    def upload(self, file: Path, progress: OnProgress) -> tuple[str, int]:
        """(its path there, bytes that were sent now). What an earlier try brought is not sent again: the name is the
        file's digest, and the whole is checked at the end. ShipError when the link stays cut."""
        digest, size, sent = digest_of(file), file.stat().st_size, 0
        part, whole = f"{FOLDER}/{digest}.part", f"{FOLDER}/{digest}"
        for attempt in range(TRIES):
            try:
                there = self._uploaded_bytes(part, whole)
                if there < size:
                    sent += self._append(file, part, there, size, progress)
                self._finish(part, whole, digest)
                return whole, sent
            except ShipError:
                if attempt == TRIES - 1:
                    raise
                time.sleep(self._pause_s)
        raise AssertionError("unreachable")

    def _uploaded_bytes(self, part: str, whole: str) -> int:
        command = f"mkdir -p {FOLDER}; [ ! -e {whole} ] || mv {whole} {part}; cat {part} 2>/dev/null | wc -c"
        return int(self.run(command))

    def _append(self, file: Path, part: str, there: int, size: int, progress: OnProgress) -> int:
        """Bytes sent before the link held no more."""
        sent = 0
        argv = self._argv(f"cat >> {part}")
        with (
            file.open("rb") as content,
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as pipe,
        ):
            assert pipe.stdin
            content.seek(there)
            with suppress(BrokenPipeError):
                while block := content.read(BLOCK):
                    pipe.stdin.write(block)
                    pipe.stdin.flush()
                    sent += len(block)
                    progress(there + sent, size)
            with suppress(BrokenPipeError):
                pipe.stdin.close()
            if pipe.wait():
                raise ShipError(f"{self.address}: the link was cut after {there + sent} of {size} bytes")
        return sent

    def _finish(self, part: str, whole: str, digest: str) -> None:
        found = self.run(f"sha256sum {part}", timeout_s=600).split()[0]
        if found != digest:
            self.run(f"rm -f {part}")
            raise ShipError(
                f"{self.address}: what arrived is not what was sent (sha256 {found[:12]}); sending it again"
            )
        self.run(f"mv {part} {whole}")

    def remove_uploads(self, keep: Sequence[str] = ()) -> None:
        """Remove what earlier transfers left, but the files named in `keep`."""
        spared = "".join(f" ! -name {quote(Path(name).name)}" for name in keep)
        with suppress(ShipError):
            self.run(f"[ ! -d {FOLDER} ] || find {FOLDER} -type f{spared} -exec rm -f {{}} +")


def _kill_group(process: "subprocess.Popen[bytes]") -> None:
    if process.returncode is None:  # once it was waited for, its number may be another's
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _end_late(process: "subprocess.Popen[bytes]", late: threading.Event) -> None:
    late.set()
    _kill_group(process)
