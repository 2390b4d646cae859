"""`python -m benchmarks.serving.quota`: how often the kernel throttles the server at full load under a CPU quota.

Compared with a hand-written server whose engine uses its default number of threads. Each runs in its own control group
(cgroup version 1 or 2) with the quota; the client runs outside. Needs root.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks import logger
from benchmarks.rows import Row, guarded_rows, print_rows, row
from benchmarks.serving import load, others, ours
from benchmarks.serving.clients.ways import Question, Way, question_for
from benchmarks.serving.models import bundle_of
from benchmarks.serving.player import Player, start_player
from benchmarks.serving.slices import Slice
from toolchain.cli.console import log_to_stderr

CONTROL, PERIOD_US = Path("/sys/fs/cgroup"), 100_000
QUOTAS, CONCURRENCY, BY_HAND = (1.0, 0.5), 4, "FastAPI"
WARM_S, SECONDS = 2.0, float(os.environ.get("SECONDS", "10"))
INSIDE = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"')


@contextmanager
def group(name: str, quota: float) -> Iterator[Path]:
    """A control group of `quota` CPUs; removed when its processes have exited."""
    old = CONTROL / "cpu"
    folder = (old if old.is_dir() else CONTROL) / f"edge-bench-{name}"
    folder.mkdir(exist_ok=True)
    allowed = int(quota * PERIOD_US)
    if old.is_dir():
        (folder / "cpu.cfs_period_us").write_text(str(PERIOD_US))
        (folder / "cpu.cfs_quota_us").write_text(str(allowed))
    else:
        (folder / "cpu.max").write_text(f"{allowed} {PERIOD_US}")
    try:
        yield folder
    finally:
        folder.rmdir()


def throttled_periods(folder: Path) -> tuple[int, int]:
    """(periods so far, periods in which the group was throttled)."""
    counters = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
    return int(counters["nr_periods"]), int(counters["nr_throttled"])


def measure_server(client: Player, way: Way, folder: Path) -> tuple[float, Slice]:
    """(share of periods in which it was throttled, slice)."""
    client.ask(load.Ask(way.target, WARM_S, CONCURRENCY), Slice)
    before = throttled_periods(folder)
    measured_slice: Slice = client.ask(load.Ask(way.target, SECONDS, CONCURRENCY), Slice)
    periods, times = (after - counter for after, counter in zip(throttled_periods(folder), before, strict=True))
    return times / max(1, periods), measured_slice


def measure_quota(quota: float, client: Player, folder: Path, question: Question) -> Iterator[Row]:
    bundle = bundle_of("mobilenet_v2")
    with ExitStack() as stack:
        results = {}
        for name in (ours.NAME, BY_HAND):
            logger.info(f"  {quota:g} CPUs: {name}")
            place = stack.enter_context(group(f"{name.lower()}-{quota:g}", quota))
            within: Sequence[str] = (*INSIDE, str(place))
            ways = stack.enter_context(
                ours.serving(bundle, folder, question, within)
                if name == ours.NAME
                else others.serving(name, bundle, folder, question, within)
            )
            results[name] = measure_server(client, ways[0], place)
    (share, mine), (other_share, other) = results[ours.NAME], results[BY_HAND]
    p99_ms, other_ms = (float(np.quantile(one.latencies_ms, 0.99)) for one in (mine, other))
    note = f"{len(mine.latencies_ms)} answers in {SECONDS:g} s; {BY_HAND} {other_share:.0%}, {len(other.latencies_ms)}"
    yield row(f"--cpus={quota:g}: throttled by the kernel, of periods at full load", 100 * share, "<", 1, "%", note)
    note = f"{p99_ms:.0f} ms against {other_ms:.0f} ms of {BY_HAND}, whose engine takes its default of threads"
    yield row(f"--cpus={quota:g}: p99 over that with default threads", p99_ms / other_ms, "<", 1, "", note)


def quotas() -> list[Row]:
    """The rows; none, with a message, for a user who may not create control groups."""
    if os.geteuid():
        logger.info("bench: not run: CPU quotas need root")
        return []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-quota-")))
        question = question_for(bundle_of("mobilenet_v2"), folder)
        client = stack.enter_context(start_player("load"))
        return [one for quota in QUOTAS for one in measure_quota(quota, client, folder, question)]


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("quota", quotas))
