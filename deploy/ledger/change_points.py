"""Where a history of figures changed its level: a warning for a slow creep that no single gate sees. Moves no baseline.

Circular binary segmentation (Olshen et al., Biostatistics 2004): take the stretch that differs most from the rest, ask
a permutation test whether that is chance, go on within and beside it. One split at a time (E-divisive, as Apache Otava
has it) does not see a level that rose and fell again. The statistic is Student's t with the sample's variance; Otava
divides by the population's, which makes t too large where there are few values.
"""

from collections.abc import Iterable, Sequence
from math import exp, log

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.ledger.history import Row

LEAST = 3  # values on either side
PERMUTATIONS = 999
ALPHA = 0.01
EFFECT = 0.03  # what is less is no change that anybody would act on


class Change(msgspec.Struct, frozen=True):
    """A level that changed. at: index of the first value of the new level; change: as a share; p: of the permutation
    test."""

    at: int
    change: float
    p: float


class Creep(msgspec.Struct, frozen=True):
    """A change in the p50 of a model on a device: from the release `after` which, and with which it `began`."""

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
            f"release {self.began} (up to {self.after} it was level; p = {self.p:.3f})"
        )


def change_points(values: Sequence[float], seed: int = 0) -> tuple[Change, ...]:
    """The changes in positive `values`, in their order; none in fewer than 6."""
    logs = np.log(np.asarray(values, np.float64))
    random = np.random.default_rng(seed)
    borders = sorted(_borders(logs - logs.mean() if len(logs) else logs, 0, random))
    edges = [0, *(at for at, _ in borders), len(logs)]
    found = []
    for place, (at, p) in enumerate(borders):
        before, after = logs[edges[place] : at], logs[at : edges[place + 2]]
        change = exp(float(np.median(after) - np.median(before))) - 1
        if abs(log(1 + change)) >= log(1 + EFFECT):
            found.append(Change(at, change, p))
    return tuple(found)


def _borders(logs: NDArray[np.float64], offset: int, random: np.random.Generator) -> list[tuple[int, float]]:
    """(index, p) of every border in `logs`, which begin at `offset`."""
    arcs = _arcs(len(logs))
    if not arcs:
        return []
    best, strongest = _strongest(logs[None], arcs)
    rows = random.permuted(np.tile(logs, (PERMUTATIONS, 1)), axis=1)
    p = (1 + int(np.sum(_strongest(rows, arcs)[1] >= strongest[0]))) / (PERMUTATIONS + 1)
    if p >= ALPHA:
        return []
    start, end = arcs[int(best[0])]
    found = [(offset + at, p) for at in (start, end) if 0 < at < len(logs)]
    for first, last in ((0, start), (start, end), (end, len(logs))):
        found += _borders(logs[first:last], offset + first, random)
    return found


def _arcs(count: int) -> list[tuple[int, int]]:
    """All stretches [start, end) that leave nothing, or LEAST values and more, on either side of each border."""
    starts = [at for at in range(count - LEAST + 1) if not 0 < at < LEAST]
    ends = [at for at in range(LEAST, count + 1) if not count - LEAST < at < count]
    return [(a, b) for a in starts for b in ends if b - a >= LEAST and count - (b - a) >= LEAST]


def _strongest(
    rows: NDArray[np.float64], arcs: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each row the arc whose inside differs most from its outside, and its |t|."""
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
        found = np.abs(mean_in - mean_out) / np.maximum(spread, 1e-9)
        best[found > strongest] = number
        strongest = np.maximum(found, strongest)
    return best, strongest


def creeps(rows: Iterable[Row]) -> tuple[Creep, ...]:
    """Every change in a history, newest first, by model, device and precision."""
    series: dict[tuple[str, str, str], list[Row]] = {}
    for one in reversed(list(rows)):
        if one.p50_ms and one.device:
            series.setdefault((one.name, one.device, one.precision), []).append(one)
    return tuple(
        Creep(*who, found[change.at - 1].release, found[change.at].release, change.change, change.p)
        for who, found in series.items()
        for change in change_points([one.p50_ms or 0.0 for one in found])
    )
