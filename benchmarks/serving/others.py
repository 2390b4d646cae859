"""The other servers: one environment each from locked requirements, one script each in peers/.

The top of each script describes its best configuration and why. All of them take an image's bytes as the raw request
body, outside of any protocol, which is the fastest way for each; ours speaks the whole protocol.
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
from benchmarks.serving.load import Target, is_answered
from benchmarks.serving.ours import read_binary, read_message
from benchmarks.serving.processes import start_process
from toolchain.paths import home
from toolchain.records.bundle import Bundle

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "peers"
UV = ROOT / ".venv" / "bin" / "uv"
PATIENCE_S = 60.0
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "DO_NOT_TRACK": "1"}
CONTENT = "image/x-rgb"  # KServe parses an octet stream as JSON


class Peer(NamedTuple):
    """requirements: a file in requirements/peers. command: its words; {bin} stands for the environment's bin
    folder. grpc: whether it speaks Open Inference Protocol v2 over gRPC, on the next port."""

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
    """The environment's bin folder, recreated when the lock file has changed."""
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
    """One peer's ways, once it answers; RuntimeError with its log if it does not. within: see ours.serving."""
    peer, port = PEERS[name], free_port()
    programs = environment(peer.requirements)
    command = [word.format(bin=programs, port=port) for word in peer.command]
    model = (bundle.folder / bundle.manifest.serving.files[0]).absolute()
    more = {"MODEL": str(model), "PORT": str(port), "PYTHONPATH": str(SCRIPTS), "HOME": str(folder), **QUIET}
    log = folder / f"{peer.requirements}.log"
    content = request("POST", peer.path, question.raw.tobytes(), {"Content-Type": CONTENT})
    target = Target(f"127.0.0.1:{port}", written(folder, peer.requirements, content))
    with start_process([*within, *command], log, SCRIPTS, more) as process:
        until = time.monotonic() + PATIENCE_S
        while not is_answered(target):
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
    """A free port whose successor is free too: some servers open two."""
    while True:
        with socket.socket() as probe, socket.socket() as two:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
