"""`toolchain build --target=null` on recipes, in one process that lives on, or in a process of its own; and what each
run left behind.

Run as `python -m benchmarks.intake.recipe_runs`: reads the paths of recipes, prints what became of each as JSON.
"""

import io
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from random import Random
from threading import Timer

import msgspec
import numpy as np
from PIL import Image

from toolchain.errors import RecordError
from toolchain.records.bundle import open_bundle

TIMEOUT_S = 600.0  # a machine that is busy with other things takes minutes
NET = """
from torch import nn

def build(classes: int = 4) -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(body, nn.Linear(8, classes))

def number() -> int:
    return 3

def failing() -> nn.Module:
    raise RuntimeError("no such thing\\nin two lines")
"""


class RunOutcome(msgspec.Struct, frozen=True):
    """stderr: all that was said; exit status as of the command, 255 where the process died or did not end."""

    status: int
    stderr: str
    seconds: float


def write_folder(folder: Path) -> None:
    """What a recipe of recipe_mutations.py names: a network, four classes of pictures, labels, and files of noise."""
    random, chance = np.random.default_rng(0), Random(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("ant", "bee", "cat", "dog"):
            place = folder / "images" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(place / f"{number}.png")
    (folder / "empty-folder").mkdir()
    (folder / "net.py").write_text(NET)
    (folder / "bad.py").write_bytes("# Größe\ndef build(:\n".encode("cp1252"))
    for name, content in (
        *((f"noise.{suffix}", chance.randbytes(999)) for suffix in ("bin", "pt", "pt2", "onnx", "safetensors")),
        ("empty", b""),
        ("labels.txt", b"one\ntwo\nthree\nfour\n"),
        ("labels-bom.txt", b"\xef\xbb\xbfone\r\ntwo\r\nthree\r\nfour\r\n"),
        ("labels-utf16.txt", "one\ntwo\nthree\nfour\n".encode("utf-16")),
        ("labels-cp1252.txt", "eins\nzwei\ndrei\nfünf\n".encode("cp1252")),
    ):
        (folder / name).write_bytes(content)


def command_for(recipe: Path) -> list[str]:
    return ["build", str(recipe), "--target=null"]


def run_alone(recipe: Path, home: Path) -> RunOutcome:
    """The real command, in a process of its own."""
    began = time.monotonic()
    command = [sys.executable, "-m", "toolchain", *command_for(recipe)]
    environment = {**os.environ, "TOOLCHAIN_HOME": str(home)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return RunOutcome(255, f"no end after {TIMEOUT_S:.0f} s", time.monotonic() - began)
    return RunOutcome(done.returncode, done.stderr.decode(errors="replace"), time.monotonic() - began)


class Worker:
    """A process that runs one recipe after the other; a new one takes its place where it died or did not end."""

    def __init__(self, home: Path) -> None:
        self._home, self._process = home, self._start(home)

    def _start(self, home: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "benchmarks.intake.recipe_runs"]
        environment = {**os.environ, "TOOLCHAIN_HOME": str(home)}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, env=environment, text=True, **pipes)  # type: ignore[call-overload,no-any-return]  # of Popen's many

    def run(self, recipe: Path) -> RunOutcome:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        timer = Timer(TIMEOUT_S, process.kill)
        timer.start()
        try:
            process.stdin.write(f"{recipe}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if line:
            return msgspec.json.decode(line, type=RunOutcome)
        status = process.wait()
        self._process = self._start(self._home)
        return RunOutcome(255, f"the process ended with {status}, or did not end in {TIMEOUT_S:.0f} s", 0.0)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


def faults_of(outcome: RunOutcome, home: Path) -> Iterator[str]:
    """What is wrong with how a build ended and with what it left."""
    lines = [line for line in outcome.stderr.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("toolchain: ")]
    if outcome.status not in (0, 1, 2):
        yield f"exit status {outcome.status}: {lines[-1:]}"
    if "Traceback (most recent call last)" in outcome.stderr:
        yield f"a traceback: {lines[-1]}"
    if any("fault of the toolchain" in line for line in said):
        yield said[-1]
    if outcome.status in (1, 2) and (len(said) != 1 or not lines or lines[-1] != said[0]):
        yield f"exit status {outcome.status} without one last line: {lines[-3:]}"
    if outcome.status == 0 and said:
        yield f"exit status 0 with an error: {said[-1]}"
    yield from half_written(home)


def half_written(home: Path) -> Iterator[str]:
    """Temporary files and folders below `home`, and bundles that cannot be opened."""
    for place in home.rglob("*"):
        if place.name.startswith(".") or place.name.endswith(".work"):
            yield f"left behind: {place.relative_to(home)}"
    for bundle in home.glob("bundles/*"):
        try:
            open_bundle(bundle)
        except RecordError as error:
            yield f"half a bundle: {error}"


def serve() -> None:
    """Build each recipe named on stdin."""
    from toolchain.cli import COMMANDS
    from toolchain.cli.parser import run

    replies = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print there themselves is no reply
    for line in sys.stdin:
        began, heard = time.monotonic(), io.StringIO()
        with redirect_stderr(heard), redirect_stdout(io.StringIO()):
            status = _status_of(partial(run, COMMANDS, command_for(Path(line.rstrip("\n")))), heard)
        outcome = RunOutcome(status, heard.getvalue(), time.monotonic() - began)
        replies.write(msgspec.json.encode(outcome).decode() + "\n")
        replies.flush()


def _status_of(command: Callable[[], int], heard: io.StringIO) -> int:
    """As Python itself ends a command."""
    try:
        return command()
    except SystemExit as left:
        return int(left.code or 0)
    except BaseException:
        heard.write(traceback.format_exc())
        return 1


if __name__ == "__main__":
    serve()
