"""Figures -> the table, and a row per requirement. Pure functions."""

from collections.abc import Iterator, Sequence
from itertools import product

from benchmarks.rows import Row, row
from benchmarks.serving.slices import Figures
from toolchain.tables import table

COLUMNS = {
    "model, c": "",
    "server": "",
    "transport": "",
    "share": ".0%",
    "req/s": ",.0f",
    "p50, ms": ".2f",
    "p99, ms": ".2f",
    "CPU ms": ".2f",
    "client": ".2f",
    "MB": ",.0f",
}
LEGEND = """share: of the bare engine's throughput in the slices beside (c = 1: its latency hint, one request; else its
throughput hint), the median of the rounds. CPU ms, client: of the server and of the load generator, a request: both
have the same cores, so that what a client takes, the server lacks. MB: proportional set size of all its processes."""
OURS, BY_HAND = "ours", "FastAPI"
BINARY, SHARED, UNIX = "HTTP uint8", "shared memory", "Unix socket"
LOADED = (4, 16)
# model, transports of which one must reach the share, share of the bare engine's throughput
FULL = (
    ("resnet50", (BINARY,), 0.96),
    ("mobilenet_v2", (BINARY,), 0.90),
    ("mobilenet_v2", (SHARED, UNIX), 0.93),
)
ALONE_MS = {BINARY: 0.4, SHARED: 0.25}
PEERS = {"LitServe": 1.5, "BentoML": 1.5, "MLServer": 1.5, "KServe": 1.5, BY_HAND: 1.3}
COMPARED = "mobilenet_v2"


def page(figures: Sequence[Figures]) -> str:
    """The table and a legend of its columns."""
    return f"{table([_line(figure) for figure in figures], COLUMNS)}\n\n{LEGEND}"


def _line(figure: Figures) -> tuple[object, ...]:
    costs = figure.server_cpu_ms, figure.client_cpu_ms, figure.memory_mb
    times = figure.rate, figure.p50_ms, figure.p99_ms
    return (f"{figure.model} {figure.concurrency}", figure.server, figure.transport, figure.share, *times, *costs)


def rows(figures: Sequence[Figures]) -> list[Row]:
    """A row for each requirement that was measured in this run."""
    return [*_full(figures), *_alone(figures), *_against(figures)]


def _full(figures: Sequence[Figures]) -> Iterator[Row]:
    for (model, transports, bound), concurrency in product(FULL, LOADED):
        ours = [
            figure
            for figure in figures
            if (figure.server, figure.model, figure.concurrency) == (OURS, model, concurrency)
        ]
        ours = [figure for figure in ours if figure.transport in transports]
        if ours:
            best = max(ours, key=lambda figure: figure.share)
            what = f"{model}, {best.transport}, c={concurrency}: of the bare engine's throughput"
            note = f"rounds {best.spread[0]:.2f} to {best.spread[1]:.2f}; {best.rate:.0f}/s"
            yield row(what, best.share, ">=", bound, "", note)


def _alone(figures: Sequence[Figures]) -> Iterator[Row]:
    for figure in figures:
        bound = ALONE_MS.get(figure.transport)
        if figure.server == OURS and figure.concurrency == 1 and bound is not None:
            what = f"{figure.model}, {figure.transport}, c=1: p50 beyond the bare engine's"
            yield row(what, figure.more_ms, "<=", bound, "ms", f"p50 {figure.p50_ms:.2f} ms")


def _against(figures: Sequence[Figures]) -> Iterator[Row]:
    """Our HTTP transport with raw pixels against the fastest transport of each peer."""
    loaded = [figure for figure in figures if figure.model == COMPARED and figure.concurrency in LOADED]
    for ours in (figure for figure in loaded if (figure.server, figure.transport) == (OURS, BINARY)):
        for peer, bound in PEERS.items():
            theirs = [figure for figure in loaded if figure.server == peer and figure.concurrency == ours.concurrency]
            if not theirs:
                continue
            best = max(theirs, key=lambda figure: figure.share)
            where = f"{COMPARED}, c={ours.concurrency}"
            note = f"by {best.transport}: {best.share:.0%} of bare against our {ours.share:.0%}"
            yield row(f"{where}: throughput over {peer}", ours.share / best.share, ">=", bound, "times", note)
            if peer != BY_HAND:
                lower = f"ours {ours.p99_ms:.1f} ms, theirs {best.p99_ms:.1f} ms"
                yield row(f"{where}: p99 over {peer}", ours.p99_ms / best.p99_ms, "<", 1, "times", lower)
