"""Change points in the latency history: warns of a slow regression that no single gate sees. Moves no baseline.

Circular binary segmentation (Olshen et al., Biostatistics 2004): take the segment that differs most from the rest, let
a permutation test decide whether that is chance, then search inside the segment and on both sides of it. One split at a
time (E-divisive, as in Apache Otava) misses a level that rose and fell again. The statistic is Student's t with the
sample variance; Otava divides by the population variance, which makes t too large for few values.
"""

from collections.abc import Iterable, Sequence
from math import exp, log

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.ledger.history import HistoryRow

LEAST = 3  # values on either side of a change point
PERMUTATIONS = 999
ALPHA = 0.01
EFFECT = 0.03  # nobody would act on a smaller change


class ChangePoint(msgspec.Struct, frozen=True):
    """at: index of the first value of the new level; change: relative, as a share; p: of the permutation test."""

    at: int
    change: float
    p: float


class ReleaseChange(msgspec.Struct, frozen=True):
    """A change point in the p50 of a model on a device. after: the last release at the old level, began: the first at
    the new one; change: relative, as a share."""

    name: str
    device: str
    precision: str
    after: str
    began: str
    change: float
    p: float

    @property
    def sentence(self) -> str:
        way = "slower" if self.change > 0 else "faster"
        return (
            f"p50 of {self.name} ({self.precision}) on {self.device} is {abs(100 * self.change):.1f} % {way} since "
            f"release {self.began} (level until release {self.after}; p = {self.p:.3f})"
        )


def find_change_points(values: Sequence[float], seed: int = 0) -> tuple[ChangePoint, ...]:
    """The change points of positive `values`, in order; none for fewer than 6 values."""
    logs = np.log(np.asarray(values, np.float64))
    random = np.random.default_rng(seed)
    borders = sorted(_borders(logs - logs.mean() if len(logs) else logs, 0, random))
    edges = [0, *(at for at, _ in borders), len(logs)]
    points = []
    for index, (at, p) in enumerate(borders):
        before, after = logs[edges[index] : at], logs[at : edges[index + 2]]
        change = exp(float(np.median(after) - np.median(before))) - 1
        if abs(log(1 + change)) >= log(1 + EFFECT):
            points.append(ChangePoint(at, change, p))
    return tuple(points)


def _borders(logs: NDArray[np.float64], offset: int, random: np.random.Generator) -> list[tuple[int, float]]:
    """(index, p) of every border between two levels in `logs`; `offset` is the index of the first value."""
    arcs = _arcs(len(logs))
    if not arcs:
        return []
    best, strongest = _strongest(logs[None], arcs)
    rows = random.permuted(np.tile(logs, (PERMUTATIONS, 1)), axis=1)
    p = (1 + int(np.sum(_strongest(rows, arcs)[1] >= strongest[0]))) / (PERMUTATIONS + 1)
    if p >= ALPHA:
        return []
    start, end = arcs[int(best[0])]
    borders = [(offset + at, p) for at in (start, end) if 0 < at < len(logs)]
    for first, last in ((0, start), (start, end), (end, len(logs))):
        borders += _borders(logs[first:last], offset + first, random)
    return borders


def _arcs(count: int) -> list[tuple[int, int]]:
    """All segments [start, end) that leave either no value or at least LEAST values on each side of a border."""
    starts = [at for at in range(count - LEAST + 1) if not 0 < at < LEAST]
    ends = [at for at in range(LEAST, count + 1) if not count - LEAST < at < count]
    return [(a, b) for a in starts for b in ends if b - a >= LEAST and count - (b - a) >= LEAST]


def _strongest(
    rows: NDArray[np.float64], arcs: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each row, the index of the arc whose inside differs most from its outside, and its |t|."""
    count = rows.shape[1]
    sums = np.concatenate([np.zeros((len(rows), 1)), np.cumsum(rows, axis=1)], axis=1)
    total, squares = sums[:, -1], np.sum(rows**2, axis=1)
    best, strongest = np.zeros(len(rows), np.int64), np.full(len(rows), -1.0)
    for number, (start, end) in enumerate(arcs):
        inside = end - start
        mean_in = (sums[:, end] - sums[:, start]) / inside
        mean_out = (total - sums[:, end] + sums[:, start]) / (count - inside)
        left = np.maximum(squares - inside * mean_in**2 - (count - inside) * mean_out**2, 0.0)
        spread = np.sqrt(left / (count - 2) * (1 / inside + 1 / (count - inside)))
        t = np.abs(mean_in - mean_out) / np.maximum(spread, 1e-9)
        best[t > strongest] = number
        strongest = np.maximum(t, strongest)
    return best, strongest


def find_release_changes(rows: Iterable[HistoryRow]) -> tuple[ReleaseChange, ...]:
    """Every change point in a history (newest first), by model, device and precision."""
    series: dict[tuple[str, str, str], list[HistoryRow]] = {}
    for row in reversed(list(rows)):
        if row.p50_ms and row.device:
            series.setdefault((row.name, row.device, row.precision), []).append(row)
    return tuple(
        ReleaseChange(*key, history[point.at - 1].release, history[point.at].release, point.change, point.p)
        for key, history in series.items()
        for point in find_change_points([row.p50_ms or 0.0 for row in history])
    )
