"""A POSIX shell on a server, through ssh, and files brought to it: a transfer that was cut goes on where it was.

Needs sh, cat, wc, sha256sum, df and mkdir there, which every Linux has. Knows nothing of Docker.
"""

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from shlex import quote

from deploy.docker.ssh import ALIVE, LOCAL, OPTIONS
from deploy.servers.server import ShipError
from toolchain.records.storage import digest_of

BLOCK = 256 << 10
TRIES, PAUSE_S = 6, 5.0  # a link that is cut for half a minute is waited for
FOLDER = ".cache/edge-toolchain"
OnProgress = Callable[[int, int], None]  # (bytes there, of how many)


class Shell:
    """Commands on `address` (as ssh takes it)."""

    def __init__(self, address: str, pause_s: float = PAUSE_S) -> None:
        self.address, self._pause_s = address, pause_s

    def run(self, command: str, stdin: bytes = b"", timeout_s: float = 60) -> str:
        """stdout; ShipError with what it said on stderr."""
        done = self._ssh(command, stdin, timeout_s)
        if done.returncode:
            said = " ".join(done.stderr.decode(errors="replace").split())[-300:] or f"exit {done.returncode}"
            raise ShipError(f"{self.address}: `{command[:60]}` failed there ({said})")
        return done.stdout.decode(errors="replace")

    def _ssh(self, command: str, stdin: bytes, timeout_s: float) -> "subprocess.CompletedProcess[bytes]":
        try:
            return subprocess.run(self._argv(command), input=stdin, capture_output=True, timeout=timeout_s, check=False)
        except subprocess.TimeoutExpired as error:
            raise ShipError(f"{self.address}: no answer within {timeout_s:.0f} s to `{command[:60]}`") from error

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
            subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as pipe,
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
