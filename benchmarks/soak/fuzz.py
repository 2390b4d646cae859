"""Malformed requests, by the hundred thousand, against a real server process: only refusals, no crash, no leak.

    python -m benchmarks.soak.fuzz --count=3000 --seed=7
    python -m benchmarks.soak.fuzz --case=json:7:1234        # one again, as a failure names it

Case N is made from the seed, its kind and N alone. Between cases the server is asked something valid, its log is read,
and its memory and open files are looked at.
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
from benchmarks.soak.asking import Asking, Told
from benchmarks.soak.cases import FILE, FILE_BYTES, INFER, REGION, Case, binary_case, head_case, json_case, region_case
from benchmarks.soak.growth import growth
from benchmarks.soak.grpccases import grpc_case, http2_case
from benchmarks.soak.picturecases import picture_case
from benchmarks.soak.watched import Watched, watched
from toolchain.cli.console import log_to_stderr

KINDS: dict[str, Callable[[Random], Case]] = {
    "json": json_case,
    "binary": binary_case,
    "head": head_case,
    "picture": picture_case,
    "region": region_case,
    "grpc": grpc_case,
    "http2": http2_case,
}
# Limits that cases can reach. A server that has no time for a request says 504, as one that asks for 1 us must hear
FLAGS = ("--max-body=1048576", "--sender-timeout=3", "--max-batch=32")
BY_DESIGN = {"503", "504"}
CLOSED = {"closed", "goaway", "answered"}  # a connection on which no status is looked for, or that had none
OF_GRPC = {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
EVERY = 250  # cases between looks at the server
GROWTH, FILES = 1.05, 4  # of memory, as a ratio; files of our own connections that come and go
TOLD, MOST = 20, 200  # failures that are told; that end the run
VALID = Case("kept", request("POST", INFER, bytes(192), {"Inference-Header-Content-Length": "0"}))
FORGET = Case("kept", request("POST", f"{REGION}/unregister"))


def case_of(name: str) -> Case:
    """`kind:seed:number`; a kind that is not there is a KeyError."""
    return KINDS[name.partition(":")[0]](Random(name))


def names(count: int, seed: int) -> Iterator[str]:
    kinds = tuple(KINDS)
    return (f"{kinds[number % len(kinds)]}:{seed}:{number}" for number in range(count))


def flaw(told: Told) -> str:
    """Why this is no answer to a malformed request; empty where it is one."""
    if told.status == "none":
        return "no answer in time"
    if told.status in BY_DESIGN:
        return "" if b'"error"' in told.text else f"{told.status} without a reason"
    if told.status in CLOSED or told.status in OF_GRPC or told.status[0] in "1234":
        return ""
    return f"answered {told.status}: {told.text!r:.300}"


class Seen(NamedTuple):
    memory_mb: float
    files: int


class Fuzz:
    """One run against one server."""

    def __init__(self, server: Watched, asking: Asking) -> None:
        self._server, self._asking = server, asking
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.failures = 0
        self.seen: list[Seen] = []

    def run(self, chosen: Sequence[str]) -> None:
        for number, name in enumerate(chosen, 1):
            self._try(name)
            if number % EVERY == 0 or number == len(chosen):
                self._look(name)
                if number % (EVERY * 20) == 0:
                    logger.info(
                        f"  {number} of {len(chosen)}; {self.seen[-1].memory_mb:.0f} MB, {self.failures} failures"
                    )
            if not self._server.is_alive or self.failures > MOST:
                return

    def _try(self, name: str) -> None:
        case, began = case_of(name), time.monotonic()
        try:
            told = self._asking.ask(case)
        except OSError as error:
            told = [Told("refused", repr(error).encode())]
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        for one in told:
            self.answers[f"{name.partition(':')[0]} {one.status}"] += 1
        whys = [why for one in told if (why := flaw(one))]
        whys += [f"the log says {line[:1500]}" for line in self._server.faults()]
        for why in whys:
            self._fail(name, why, case.content)

    def _fail(self, name: str, why: str, content: bytes = b"") -> None:
        self.failures += 1
        if self.failures <= TOLD:
            logger.info(f"failed: --case={name}: {why}\n    sent {content!r:.600}")

    def _look(self, name: str) -> None:
        """Whether it still answers what is right, once nothing of ours is left in it."""
        self._asking.ask(FORGET)
        told = self._asking.ask(VALID)[0]
        if told.status != "200":
            self._fail(name, f"then a valid request was answered {told.status}: {told.text!r:.300}")
        if self._server.is_alive:
            self.seen.append(Seen(self._server.memory_mb, self._server.files))


def rows(fuzz: Fuzz, count: int, alive: bool) -> list[Row]:
    memory, files = [one.memory_mb for one in fuzz.seen], [one.files for one in fuzz.seen]
    answers = ", ".join(f"{what}: {many}" for what, many in sorted(fuzz.answers.items()))
    more = files[-1] - min(files) if files else None
    return [
        row(f"of {count} malformed requests, failures", fuzz.failures, "<=", 0, "", answers),
        row("malformed requests: the server lives", int(alive), ">=", 1, ""),
        row("slowest answer", fuzz.slowest_s, "<=", 5, "s"),
        row(
            "memory, at most: last fifth to the first two",
            growth(memory),
            "<=",
            GROWTH,
            "",
            f"in MB: {memory[:1]} to {memory[-1:]}",
        ),
        row("open files more than at the least", more, "<=", FILES, ""),
    ]


def fuzzed(chosen: Sequence[str], count: int) -> list[Row]:
    """Rows of one run; failures are told at once."""
    file = Path("/dev/shm") / FILE
    file.write_bytes(bytes(FILE_BYTES))
    try:
        with TemporaryDirectory(prefix="soak-") as folder, watched(Path(folder), *FLAGS) as (server, *ports):
            asking = Asking(ports[0], ports[1])
            fuzz = Fuzz(server, asking)
            fuzz.run(chosen)
            found = rows(fuzz, count, server.is_alive)
            asking.close()
    finally:
        file.unlink()
    return found


def main() -> None:
    log_to_stderr()
    parser = argparse.ArgumentParser(description="malformed requests against our server")
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--first", type=int, default=0, help="the number to begin with")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=KINDS, help="only these")
    parser.add_argument("--case", help="one again, as kind:seed:number")
    asked = parser.parse_args()
    chosen = [asked.case] if asked.case else list(names(asked.first + asked.count, asked.seed))[asked.first :]
    chosen = [name for name in chosen if asked.kind is None or name.startswith(f"{asked.kind}:")]
    print_rows(fuzzed(chosen, len(chosen)))


if __name__ == "__main__":
    main()
