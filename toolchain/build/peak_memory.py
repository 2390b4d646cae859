"""The memory that an artifact needs: the peak of a fresh process that opens it and answers one image at a time.

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

IMAGES = 8
ROOT = Path(__file__).parents[2]


class MemoryRequest(msgspec.Struct, frozen=True):
    """shape: of one image, uint8 [height, width, channels]."""

    folder: str
    candidate: Candidate
    threads: int
    shape: tuple[int, ...]


def peak_memory_of(folder: Path, candidate: Candidate, threads: int, shape: tuple[int, ...]) -> int:
    """The peak in a process of its own, Python and the engine's library in it; DeviceError when it cannot run here."""
    request = msgspec.json.encode(MemoryRequest(str(folder.resolve()), candidate, threads, shape))
    command = [sys.executable, "-m", "toolchain.build.peak_memory"]
    done = subprocess.run(command, input=request, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"]
        raise DeviceError(f"{candidate.backend} {candidate.precision}: its memory cannot be measured: {reason[-1]}")
    return int(done.stdout.split()[-1])


def answer_and_measure(request: MemoryRequest) -> int:
    """Open the artifact and answer images; the most memory that this process ever held."""
    image = np.zeros((1, *request.shape), np.uint8)
    with open_engine(Path(request.folder), request.candidate, Settings(request.threads)) as engine:
        for _ in range(IMAGES):
            engine.infer({engine.inputs[0].name: image})
    return peak_memory_bytes()


def main() -> None:
    try:
        print(answer_and_measure(msgspec.json.decode(sys.stdin.buffer.read(), type=MemoryRequest)))
    except ToolchainError as error:
        print(error, file=sys.stderr)
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
