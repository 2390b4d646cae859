"""`make bench-serving`: our server, others and the bare engine on the same model files, in one run, side by side.

    make bench-serving                          # everything
    QUICK=1 make bench-serving                  # two rounds in place of five
    ONLY=ours,FastAPI MODELS=mobilenet_v2 AT=4 ROUNDS=3 TRANSPORTS='HTTP uint8' python -m benchmarks.serving
    OURS='--threads=1' ...                      # flags for our server

All servers of a model stay up, suspended (SIGSTOP) while others are measured. Slices of 0.6 s (ResNet-50: 1.5 s)
alternate: bare, A, bare, B, bare ... The client shares the server's cores, so its CPU time is reported too. Concurrency
1 is compared with the bare engine's latency hint, 4 and 16 with its throughput hint.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks import logger
from benchmarks.rows import Row, guarded_rows, print_rows
from benchmarks.serving import bare, load
from benchmarks.serving.app import agreement
from benchmarks.serving.clients.ways import Question, Way, check, question_for
from benchmarks.serving.container import of_container
from benchmarks.serving.cost import busy, cpu_s, memory_mb
from benchmarks.serving.models import MODELS, bundle_of
from benchmarks.serving.others import PEERS, all_serving
from benchmarks.serving.ours import NAME, serving
from benchmarks.serving.player import Player, start_player
from benchmarks.serving.processes import awake
from benchmarks.serving.quota import quotas
from benchmarks.serving.slices import Figures, Round, Slice, figures
from benchmarks.serving.verdicts import page, rows
from toolchain.cli.console import log_to_stderr
from toolchain.records.bundle import Bundle

SECONDS, ROUNDS, QUICK_ROUNDS = 0.6, 5, 2
LONGER = {"resnet50": 1.5}  # a few dozen answers would be too coarse for its bound
AT = ("1", "4", "16")
QUICK = bool(os.environ.get("QUICK"))


def choices_from(variable: str, known: Sequence[str]) -> tuple[str, ...]:
    """The comma-separated values of an environment variable; all values if it is not set."""
    words = tuple(filter(None, os.environ.get(variable, "").split(",")))
    unknown = [word for word in words if word not in known]
    if unknown:
        sys.exit(f"{variable}: no '{unknown[0]}'; there are: {', '.join(known)}")
    return words or tuple(known)


@contextmanager
def servers(bundle: Bundle, folder: Path, question: Question) -> Iterator[list[Way]]:
    """Start all servers; yields every way to reach each of them."""
    with ExitStack() as stack:
        ways = []
        names = choices_from("ONLY", (NAME, *PEERS))
        if NAME in names:
            ways += stack.enter_context(serving(bundle, folder, question))
        ways += stack.enter_context(
            all_serving(tuple(name for name in names if name in PEERS), bundle, folder, question)
        )
        wanted = os.environ.get("TRANSPORTS", "").split(",")
        yield [way for way in ways if wanted == [""] or way.transport in wanted]


def check_ways(ways: Sequence[Way], folder: Path, question: Question, players: tuple[Player, Player]) -> None:
    """Check that every way gives the bare engine's answers; RuntimeError."""
    engine, client = players
    expected = {}
    for name in ("raw", "decoded"):
        np.save(folder / f"{name}.npy", getattr(question, name))
        expected[name] = np.array(engine.ask(bare.Ask(picture=str(folder / f"{name}.npy")), list[float]))
    for way in ways:
        with awake(way.pid):
            check(way, client, expected["decoded" if way.picture == "jpeg" else "raw"])
        logger.info(f"  {way}: answers as the bare engine")


def measure_rounds(
    ways: Sequence[Way], concurrency: int, rounds: int, seconds: float, players: tuple[Player, Player]
) -> list[list[Round]]:
    """The rounds of each way, in the order of `ways`."""
    engine, client = players
    measured_rounds: list[list[Round]] = [[] for _ in ways]
    for number in range(rounds):
        logger.info(f"  concurrency {concurrency}: round {number + 1} of {rounds}")
        bare_slices, slices = [_bare(engine, seconds, concurrency)], []
        for way in ways:
            with awake(way.pid):
                before = cpu_s(way.pid)
                answered = client.ask(load.Ask(way.target, seconds, concurrency), Slice)
                slices.append((answered, cpu_s(way.pid) - before))
            bare_slices.append(_bare(engine, seconds, concurrency))
        for place, ((before_it, after_it), (answered, cost)) in enumerate(
            zip(pairwise(bare_slices), slices, strict=True)
        ):
            measured_rounds[place].append(Round(before_it, answered, after_it, cost))
    return measured_rounds


def _bare(engine: Player, seconds: float, concurrency: int) -> Slice:
    measured_slice: Slice = engine.ask(bare.Ask(seconds, concurrency), Slice)
    return measured_slice


def measure_model(model: str, concurrencies: Sequence[int], rounds: int) -> Iterator[Figures | Row]:
    """The figures of one model for each server, way and concurrency, and a row that compares benchmark_app."""
    bundle = bundle_of(model)
    logger.info(f"bench: {model}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-serving-")))
        question = question_for(bundle, folder)
        ways = stack.enter_context(servers(bundle, folder, question))
        engine = stack.enter_context(start_player("bare", bundle.folder.absolute() / bundle.manifest.serving.files[0]))
        players = engine, stack.enter_context(start_player("load"))
        check_ways(ways, folder, question, players)
        if not QUICK:
            yield agreement(bundle, engine)
        for concurrency in concurrencies:
            logger.info(
                f"  {busy():.0%} of the cores are busy with other work; above a few percent the figures mislead"
            )
            taken = measure_rounds(ways, concurrency, rounds, LONGER.get(model, SECONDS), players)
            for way, way_rounds in zip(ways, taken, strict=True):
                yield figures(model, way.server, way.transport, concurrency, way_rounds, memory_mb(way.pid))
            yield bare_figures(model, concurrency, taken, memory_mb(engine.pid))


def bare_figures(model: str, concurrency: int, taken: Sequence[Sequence[Round]], memory: float) -> Figures:
    """The bare engine compared with itself: its share is 1, and the spread shows the drift."""
    slices = [
        side for rounds in taken for measured_round in rounds for side in (measured_round.before, measured_round.after)
    ]
    rounds = [Round(bare, bare, bare, bare.cpu_s) for bare in slices]
    return figures(model, "bare engine", "in process", concurrency, rounds, memory)


def main() -> None:
    log_to_stderr()
    rounds = int(os.environ.get("ROUNDS", QUICK_ROUNDS if QUICK else ROUNDS))
    concurrencies = [int(word) for word in choices_from("AT", AT)]
    results: list[Figures | Row] = []
    for model in choices_from("MODELS", MODELS):
        results += guarded_rows(model, partial(measure_model, model, concurrencies, rounds))
    all_figures = [result for result in results if isinstance(result, Figures)]
    print(page(all_figures), end="\n\n")
    more_rows = (
        [] if os.environ.get("ONLY") else [*guarded_rows("quota", quotas), *guarded_rows("container", of_container)]
    )
    print_rows([*rows(all_figures), *(result for result in results if isinstance(result, Row)), *more_rows])


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
