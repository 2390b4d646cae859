"""The front of latency and accuracy. Pure: figures go in, both as small as can be."""

from collections.abc import Sequence

from toolchain.build.step_verdict import NOISE
from toolchain.search.outcomes import TrialOutcome

LatencyAndLoss = tuple[float, float]


def dominates(one: LatencyAndLoss, other: LatencyAndLoss) -> bool:
    """Whether `one` is no worse in either figure, and better in one."""
    return one[0] <= other[0] and one[1] <= other[1] and one != other


def front_ranks(points: Sequence[LatencyAndLoss]) -> list[int]:
    """0 for the front, 1 for the front without that, and so on (non-dominated sorting, Deb et al. 2002)."""
    ranks = [-1] * len(points)
    rank, left = 0, set(range(len(points)))
    while left:
        front = {at for at in left if not any(dominates(points[other], points[at]) for other in left)}
        for at in front:
            ranks[at] = rank
        left -= front
        rank += 1
    return ranks


def reason_to_skip(ratio: float, macs: int, is_cut: bool, outcomes: Sequence[TrialOutcome]) -> str:
    """Why a structure is not worth a training; "" when it is.

    Before training, what a structure keeps of the multiply-accumulates stands for its accuracy: one that keeps no more
    than another and is slower than that is not on the front, nor is a cut one that is no faster than the uncut net.
    """
    if is_cut and ratio * NOISE >= 1:
        return f"no faster than the uncut net: {1 / ratio:.2f} times as fast"
    better = [each for each in outcomes if each.macs >= macs and each.ratio * NOISE < ratio]
    if not better:
        return ""
    best = min(better, key=lambda each: each.ratio)
    return (
        f"{1 / ratio:.2f} times as fast with {macs / 1e6:.2f} million multiply-accumulates; trial {best.trial} is "
        f"{1 / best.ratio:.2f} times as fast with {best.macs / 1e6:.2f}"
    )
