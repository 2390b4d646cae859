"""The memory that an artifact needs: the peak of a fresh process that opens it and answers one picture at a time.

Run as `python -m toolchain.build.peak_memory`: a request on stdin, a number of bytes on stdout. Imports what a
container does.
"""

import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np

from deploy.runtime.device.cgroup import peak_memory_bytes
from deploy.runtime.engines import Settings, open_engine
from toolchain.errors import DeviceError, ToolchainError
from toolchain.records.manifest import Candidate

PICTURES = 8
ROOT = Path(__file__).parents[2]


class Request(msgspec.Struct, frozen=True):
    """shape: of one picture, uint8 [height, width, channels]."""

    folder: str
    candidate: Candidate
    threads: int
    shape: tuple[int, ...]


def footprint_bytes(folder: Path, candidate: Candidate, threads: int, shape: tuple[int, ...]) -> int:
    """The peak in a process of its own, Python and the engine's library in it; DeviceError when it cannot run here."""
    asked = msgspec.json.encode(Request(str(folder.resolve()), candidate, threads, shape))
    command = [sys.executable, "-m", "toolchain.build.peak_memory"]
    done = subprocess.run(command, input=asked, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise DeviceError(f"{candidate.backend} {candidate.precision}: its memory cannot be measured: {reason[-1]}")
    return int(done.stdout.split()[-1])


def answered_bytes(request: Request) -> int:
    """Open, answer, and say how much this process ever held."""
    picture = np.zeros((1, *request.shape), np.uint8)
    with open_engine(Path(request.folder), request.candidate, Settings(request.threads)) as engine:
        for _ in range(PICTURES):
            engine.infer({engine.inputs[0].name: picture})
    return peak_memory_bytes()


def main() -> None:
    try:
        print(answered_bytes(msgspec.json.decode(sys.stdin.buffer.read(), type=Request)))
    except ToolchainError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
