"""The other servers: an environment each from its locked requirements, one script each in peers/, a raw body for all.

What each one's best configuration is, and why, stands at the top of its script. All of them take a picture's bytes as a
body of their own, outside of any protocol, the fastest way that each has; ours speaks the whole protocol.
"""

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from benchmarks import logger
from benchmarks.serving.clients.http1 import request
from benchmarks.serving.clients.infer_message import infer_request
from benchmarks.serving.clients.ways import Question, Way, written
from benchmarks.serving.load import Target, asked
from benchmarks.serving.ours import read_binary, read_message
from benchmarks.serving.processes import started
from toolchain.paths import home
from toolchain.records.bundle import Bundle

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "peers"
UV = ROOT / ".venv" / "bin" / "uv"
PATIENCE_S = 60.0
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
CONTENT = "image/x-rgb"  # KServe takes an octet stream for JSON


class Peer(NamedTuple):
    """requirements: of requirements/peers; command: its words, where {bin} is the environment's folder of programs.
    grpc: whether it speaks Open Inference Protocol v2 by gRPC, on the next port."""

    requirements: str
    command: tuple[str, ...]
    path: str = "/infer"
    grpc: bool = False


def _script(name: str) -> tuple[str, ...]:
    return ("{bin}/python", f"{name}.py")


PEERS = {
    "FastAPI": Peer("fastapi", _script("by_hand")),
    "LitServe": Peer("litserve", _script("on_litserve")),
    "BentoML": Peer(
        "bentoml",
        ("{bin}/bentoml", "serve", "on_bentoml:Classifier", "--host=127.0.0.1", "--port={port}"),
        "/raw/infer",
    ),
    "MLServer": Peer("mlserver", _script("on_mlserver")),
    "KServe": Peer("kserve", _script("on_kserve"), "/v1/models/model:predict", grpc=True),
}


def environment(name: str) -> Path:
    """The environment's folder of programs, made anew when the lock changed."""
    lock = ROOT / "requirements" / "peers" / f"{name}.txt"
    folder = (home() / "peers" / name).absolute()
    kept = folder / "lock.txt"
    if kept.is_file() and kept.read_bytes() == lock.read_bytes():
        return folder / "bin"
    logger.info(f"bench: the environment of {name}, once")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    install: list[str | Path] = [
        UV,
        "pip",
        "install",
        "--quiet",
        "--python",
        folder / "bin" / "python",
        "--require-hashes",
        "-r",
        lock,
    ]
    subprocess.run(install, check=True)
    kept.write_bytes(lock.read_bytes())
    return folder / "bin"


@contextmanager
def serving(
    name: str, bundle: Bundle, folder: Path, question: Question, within: Sequence[str] = ()
) -> Iterator[list[Way]]:
    """One peer's ways, once it has answered; RuntimeError with its log when it does not. within: as ours.serving."""
    peer, port = PEERS[name], free_port()
    programs = environment(peer.requirements)
    command = [word.format(bin=programs, port=port) for word in peer.command]
    model = (bundle.folder / bundle.manifest.serving.files[0]).absolute()
    more = {"MODEL": str(model), "PORT": str(port), "PYTHONPATH": str(SCRIPTS), "HOME": str(folder), **QUIET}
    log = folder / f"{peer.requirements}.log"
    content = request("POST", peer.path, question.raw.tobytes(), {"Content-Type": CONTENT})
    target = Target(f"127.0.0.1:{port}", written(folder, peer.requirements, content))
    with started([*within, *command], log, SCRIPTS, more) as process:
        until = time.monotonic() + PATIENCE_S
        while not asked(target):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{name} did not start: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.2)
        classes = bundle.manifest.outputs[0].shape[-1] or 0
        yield [
            Way(name, "HTTP raw", process.pid, target, partial(read_binary, classes)),
            *([_over_grpc(name, process.pid, port + 1, folder, question)] if peer.grpc else []),
        ]


def _over_grpc(name: str, pid: int, port: int, folder: Path, question: Question) -> Way:
    raw = question.raw
    message = infer_request("model", "image", raw.shape, "logits", raw.tobytes())
    target = Target(f"127.0.0.1:{port}", written(folder, f"{name}-grpc", message), "grpc")
    return Way(name, "gRPC", pid, target, read_message)


@contextmanager
def all_serving(names: tuple[str, ...], bundle: Bundle, folder: Path, question: Question) -> Iterator[list[Way]]:
    with ExitStack() as stack:
        yield [way for name in names for way in stack.enter_context(serving(name, bundle, folder, question))]


def free_port() -> int:
    """A port whose successor is free as well: some open two."""
    while True:
        with socket.socket() as probe, socket.socket() as two:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
