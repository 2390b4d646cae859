"""The container's half of a duet: it plays a slice when asked, so that contestants can be measured in turn.

A line of JSON in, `{"precision": "int8", "queries": 64}`; a line of JSON out, `{"latencies_ms": [...]}` or
`{"error": "..."}`; it ends when its input does. Whose turn it is, only the host knows (deploy/duet.py).
"""

from collections.abc import Iterable
from contextlib import ExitStack
from time import perf_counter_ns
from typing import TextIO

import msgspec

from deploy.runtime.bench import real_pictures
from deploy.runtime.engines import Engine, Settings, serving_engine
from deploy.runtime.probe import missing_needs
from toolchain.errors import DeviceError, RequestError, ToolchainError
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Array

WARM_QUERIES = 5  # the other contestants have used the caches since this one's last slice


class Turn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the host asks for."""

    precision: str
    queries: int


class Played(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the host gets: batch-1 latencies in order, or why not."""

    latencies_ms: tuple[float, ...] = ()
    error: str = ""


def run_duet(bundle: Bundle, threads: int, lines_in: Iterable[str], lines_out: TextIO) -> None:
    """Answer each line until there are no more; engines are opened when first asked for, and stay open."""
    pictures = real_pictures(bundle)
    lacking = missing_needs(bundle.manifest.needs)
    with ExitStack() as opened:
        engines: dict[str, Engine] = {}
        for line in lines_in:
            try:
                if lacking:
                    raise DeviceError(lacking)
                turn = _turn(line, bundle)
                if turn.precision not in engines:
                    settings = Settings(threads, "latency")
                    engines[turn.precision] = opened.enter_context(serving_engine(bundle, settings, turn.precision))
                played = Played(latencies_ms=slice_of(engines[turn.precision], pictures, turn.queries))
            except ToolchainError as error:
                played = Played(error=str(error))
            lines_out.write(msgspec.json.encode(played).decode() + "\n")
            lines_out.flush()


def slice_of(engine: Engine, pictures: Array, queries: int) -> tuple[float, ...]:
    """Latencies in ms of `queries` batch-1 calls, after some that do not count."""
    name = engine.inputs[0].name
    latencies_ms = []
    for query in range(-WARM_QUERIES, queries):
        index = query % len(pictures)
        feeds = {name: pictures[index : index + 1]}
        began = perf_counter_ns()
        engine.infer(feeds)
        latencies_ms.append((perf_counter_ns() - began) / 1e6)
    return tuple(latencies_ms[WARM_QUERIES:])


def _turn(line: str, bundle: Bundle) -> Turn:
    try:
        turn = msgspec.json.decode(line, type=Turn)
    except msgspec.MsgspecError as error:
        raise RequestError(f'not a turn: {error}; expected {{"precision": "int8", "queries": 64}}') from error
    held = [candidate.precision for candidate in bundle.manifest.candidates]
    if turn.precision not in held:
        raise RequestError(f"no candidate '{turn.precision}' in this bundle; it has: {', '.join(held)}")
    if turn.queries < 1:
        raise RequestError(f"queries: expected at least 1, got {turn.queries}")
    return turn
