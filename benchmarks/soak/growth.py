"""Does a figure of a process grow without end? Knows nothing of where it was read."""

from collections.abc import Sequence

from deploy.gate.statistics import median


def growth(values: Sequence[float]) -> float | None:
    """The most in the last fifth against the most in the first two, of which the first is warm-up; None where nothing
    was read. Not the least: what the system takes back when others need it comes again. A value that is higher than
    both beside it does not count: one large picture was being decoded just then."""
    if not values:
        return None
    calm = [median(values[at - 1 : at + 2]) for at in range(1, len(values) - 1)] or list(values)
    fifth = max(1, len(calm) // 5)
    return max(calm[-fifth:]) / max(calm[: 2 * fifth])
