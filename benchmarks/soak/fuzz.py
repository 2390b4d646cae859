"""Hundreds of thousands of malformed requests to a real server process: only refusals, no crash, no leak.

    python -m benchmarks.soak.fuzz --count=3000 --seed=7
    python -m benchmarks.soak.fuzz --case=json:7:1234        # repeat one, named as in a failure

Case N depends only on the seed, its kind and N. Between cases the server gets a valid request, its log is read, and its
memory and open files are checked.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import logger
from benchmarks.rows import Row, print_rows, row
from benchmarks.serving.clients.http1 import request
from benchmarks.soak.cases import FILE, FILE_BYTES, INFER, REGION, Case, binary_case, head_case, json_case, region_case
from benchmarks.soak.client import FuzzClient, Reply
from benchmarks.soak.growth import growth
from benchmarks.soak.grpc_cases import grpc_case, http2_case
from benchmarks.soak.image_cases import image_case
from benchmarks.soak.server_process import ServerProcess, run_server
from toolchain.cli.console import log_to_stderr

KINDS: dict[str, Callable[[Random], Case]] = {
    "json": json_case,
    "binary": binary_case,
    "head": head_case,
    "picture": image_case,
    "region": region_case,
    "grpc": grpc_case,
    "http2": http2_case,
}
# Limits that cases can reach. A server without time for a request replies 504, for example to a deadline of 1 us
FLAGS = ("--max-body=1048576", "--sender-timeout=3", "--max-batch=32")
BY_DESIGN = {"503", "504"}
CLOSED = {"closed", "goaway", "answered"}  # connections without a status, or on which it is not read
OF_GRPC = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
EVERY = 250  # cases between checks of the server
GROWTH, FILES = 1.05, 4  # of memory, as a ratio; open files of this client's own connections
TOLD, MOST = 20, 200  # failures that are logged; failures that end the run
VALID = Case("kept", request("POST", INFER, bytes(192), {"Inference-Header-Content-Length": "0"}))
FORGET = Case("kept", request("POST", f"{REGION}/unregister"))


def make_case(name: str) -> Case:
    """The case named `kind:seed:number`; KeyError for an unknown kind."""
    return KINDS[name.partition(":")[0]](Random(name))


def case_names(count: int, seed: int) -> Iterator[str]:
    kinds = tuple(KINDS)
    return (f"{kinds[number % len(kinds)]}:{seed}:{number}" for number in range(count))


def find_flaw(reply: Reply) -> str:
    """Why this is not a valid reply to a malformed request; empty if it is one."""
    if reply.status == "none":
        return "no reply in time"
    if reply.status in BY_DESIGN:
        return "" if b'"error"' in reply.text else f"{reply.status} without a reason"
    if reply.status in CLOSED or reply.status in OF_GRPC or reply.status[0] in "1234":
        return ""
    return f"answered {reply.status}: {reply.text!r:.300}"


class Usage(NamedTuple):
    memory_mb: float
    files: int


class Fuzz:
    """One run against one server."""

    def __init__(self, server: ServerProcess, asking: FuzzClient) -> None:
        self._server, self._asking = server, asking
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.failures = 0
        self.seen: list[Usage] = []

    def run(self, chosen: Sequence[str]) -> None:
        for number, name in enumerate(chosen, 1):
            self._try(name)
            if number % EVERY == 0 or number == len(chosen):
                self._check_server(name)
                if number % (EVERY * 20) == 0:
                    logger.info(
                        f"  {number} of {len(chosen)}; {self.seen[-1].memory_mb:.0f} MB, {self.failures} failures"
                    )
            if not self._server.is_alive or self.failures > MOST:
                return

    def _try(self, name: str) -> None:
        case, began = make_case(name), time.monotonic()
        try:
            replies = self._asking.send(case)
        except OSError as error:
            replies = [Reply("refused", repr(error).encode())]
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        for reply in replies:
            self.answers[f"{name.partition(':')[0]} {reply.status}"] += 1
        whys = [why for reply in replies if (why := find_flaw(reply))]
        whys += [f"the log says {line[:1500]}" for line in self._server.faults()]
        for why in whys:
            self._fail(name, why, case.content)

    def _fail(self, name: str, why: str, content: bytes = b"") -> None:
        self.failures += 1
        if self.failures <= TOLD:
            logger.info(f"failed: --case={name}: {why}\n    sent {content!r:.600}")

    def _check_server(self, name: str) -> None:
        """Whether the server still answers a valid request after all regions were unregistered."""
        self._asking.send(FORGET)
        reply = self._asking.send(VALID)[0]
        if reply.status != "200":
            self._fail(name, f"then a valid request was answered {reply.status}: {reply.text!r:.300}")
        if self._server.is_alive:
            self.seen.append(Usage(self._server.memory_mb, self._server.files))


def rows(fuzz: Fuzz, count: int, alive: bool) -> list[Row]:
    memory, files = [usage.memory_mb for usage in fuzz.seen], [usage.files for usage in fuzz.seen]
    answers = ", ".join(f"{what}: {many}" for what, many in sorted(fuzz.answers.items()))
    more = files[-1] - min(files) if files else None
    return [
        row(f"of {count} malformed requests, failures", fuzz.failures, "<=", 0, "", answers),
        row("malformed requests: the server is alive", int(alive), ">=", 1, ""),
        row("slowest answer", fuzz.slowest_s, "<=", 5, "s"),
        row(
            "memory, at most: last fifth to the first two",
            growth(memory),
            "<=",
            GROWTH,
            "",
            f"in MB: {memory[:1]} to {memory[-1:]}",
        ),
        row("open files beyond the minimum", more, "<=", FILES, ""),
    ]


def fuzz_rows(chosen: Sequence[str], count: int) -> list[Row]:
    """The rows of one run; failures are logged at once."""
    file = Path("/dev/shm") / FILE
    file.write_bytes(bytes(FILE_BYTES))
    try:
        with TemporaryDirectory(prefix="soak-") as folder, run_server(Path(folder), *FLAGS) as (server, *ports):
            asking = FuzzClient(ports[0], ports[1])
            fuzz = Fuzz(server, asking)
            fuzz.run(chosen)
            measured = rows(fuzz, count, server.is_alive)
            asking.close()
    finally:
        file.unlink()
    return measured


def main() -> None:
    log_to_stderr()
    parser = argparse.ArgumentParser(description="malformed requests to a server process")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="the number to start with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, help="only cases of this kind")
    parser.add_argument("--case", help="repeat one case, as kind:seed:number")
    options = parser.parse_args()
    chosen = (
        [options.case]
        if options.case
        else list(case_names(options.first + options.count, options.seed))[options.first :]
    )
    chosen = [name for name in chosen if options.kind is None or name.startswith(f"{options.kind}:")]
    print_rows(fuzz_rows(chosen, len(chosen)))


if __name__ == "__main__":
    main()
