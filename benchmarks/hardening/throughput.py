"""Throughput, and latency of one request at a time, of the server as it is and as it was at a commit, in turn.

BASE=<commit>: before (default: the commit before the server was hardened). MODEL=name: of benchmarks.serving.models.
Both serve the same bundle, by the same interpreter and engine; slices alternate, since a machine's speed drifts. The
bundle is built by the sources of before: what they wrote can be read by both.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import logger
from benchmarks.rows import Row, guarded_rows, print_rows, row
from benchmarks.serving.clients.http1 import request
from benchmarks.serving.clients.infer_message import infer_request
from benchmarks.serving.load import Ask, Target, run_slice
from benchmarks.serving.models import pictures
from benchmarks.serving.processes import start_process, wait_until_listening
from toolchain.cli.console import log_to_stderr
from toolchain.records.bundle import Bundle, open_bundle

ROOT = Path(__file__).parents[2]
BASE = "7e97ae6"
QUICK = bool(os.environ.get("QUICK"))
SLICE_S, ROUNDS = 0.6, 8 if QUICK else 40
WORSE = 0.02
PROTOCOLS = {"HTTP": "http1", "gRPC": "grpc"}


BUILD = "import sys; from benchmarks.serving.models import bundle_of; print(bundle_of(sys.argv[1]).folder)"


class ServerPair(NamedTuple):
    """What both serve; requests' files by protocol; of each server, its address by protocol."""

    bundle: Bundle
    requests: dict[str, str]
    before: dict[str, str]
    after: dict[str, str]


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """The repository as it was, in a worktree of its own."""
    place = folder / "base"
    subprocess.run(["git", "worktree", "add", "-q", "--detach", place, commit], cwd=ROOT, check=True)
    try:
        yield place
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", place], cwd=ROOT, check=True)


def built_by(root: Path, model: str, folder: Path) -> Bundle:
    environment = {**os.environ, "TOOLCHAIN_HOME": str(folder / "home")}
    command = [sys.executable, "-c", BUILD, model]
    built = subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return open_bundle(Path(built.stdout.splitlines()[-1]))


@contextmanager
def served(bundle: Bundle, root: Path, log: Path) -> Iterator[dict[str, str]]:
    """Addresses by protocol. The working directory decides which of the sources runs."""
    words = ["serve", f"--bundle={bundle.folder}", "--host=127.0.0.1", "--port=0", "--grpc-port=0", "--certify=off"]
    with start_process([sys.executable, "-m", "deploy.runtime", *words], log, root) as process:
        events = wait_until_listening(process, log)
        http, grpc = events["listening"]["port"], events["listening for gRPC"]["grpc_port"]
        yield {"HTTP": f"127.0.0.1:{http}", "gRPC": f"127.0.0.1:{grpc}"}


def written_requests(bundle: Bundle, folder: Path) -> dict[str, str]:
    """One picture, as raw bytes over HTTP and in a message over gRPC."""
    manifest = bundle.manifest
    (given,), (asked,) = manifest.inputs, manifest.outputs
    raw = pictures(manifest.preprocessing, 1).tobytes()
    plain = request("POST", f"/v2/models/{manifest.name}/infer", raw)
    head, _, body = plain.partition(b"\r\n\r\n")
    contents = {
        "HTTP": head + b"\r\nInference-Header-Content-Length: 0\r\n\r\n" + body,
        "gRPC": infer_request(manifest.name, given.name, (1, *manifest.preprocessing.shape), asked.name, raw),
    }
    for protocol, content in contents.items():
        (folder / protocol).write_bytes(content)
    return {protocol: str(folder / protocol) for protocol in contents}


@contextmanager
def server_pair(model: str, commit: str) -> Iterator[ServerPair]:
    with TemporaryDirectory(prefix="throughput-") as name, ExitStack() as stack:
        folder = Path(name)
        base = stack.enter_context(checkout(commit, folder))
        bundle = built_by(base, model, folder)
        before = stack.enter_context(served(bundle, base, folder / "before.log"))
        after = stack.enter_context(served(bundle, ROOT, folder / "after.log"))
        yield ServerPair(bundle, written_requests(bundle, folder), before, after)


def measure_pair(pair: ServerPair, protocol: str, concurrency: int) -> list[tuple[float, float]]:
    """What a slice says of before and after, in each round: the median latency in ms at one, answers at more."""

    def figure(address: str) -> float:
        target = Target(address, (pair.requests[protocol],), PROTOCOLS[protocol])
        latencies_ms = run_slice(Ask(target, SLICE_S, concurrency)).latencies_ms
        return median(latencies_ms) if concurrency == 1 else float(len(latencies_ms))

    found = []
    for number in range(ROUNDS):
        order = (pair.before, pair.after) if number % 2 else (pair.after, pair.before)
        figures = {id(addresses): figure(addresses[protocol]) for addresses in order}
        found.append((figures[id(pair.before)], figures[id(pair.after)]))
    return found


def rows() -> list[Row]:
    commit, model = os.environ.get("BASE", BASE), os.environ.get("MODEL", "mobilenet_v2")
    found = []
    with server_pair(model, commit) as pair:
        for protocol in PROTOCOLS:
            for concurrency in (1, 16):
                logger.info(f"throughput: {protocol}, {concurrency} at a time, {ROUNDS} rounds")
                pairs = measure_pair(pair, protocol, concurrency)
                ratio = median(after / before for before, after in pairs)
                note = f"{model}, against {commit}; {ROUNDS} pairs of {SLICE_S:g} s" + ", QUICK" * QUICK
                if concurrency == 1:
                    what = f"{protocol}: latency of one at a time, after over before"
                    found.append(row(what, ratio, "<=", 1 + WORSE, "", note))
                else:
                    what = f"{protocol}: throughput at {concurrency}, after over before"
                    found.append(row(what, ratio, ">=", 1 - WORSE, "", note))
    return found


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("throughput", rows))
