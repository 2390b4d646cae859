"""Does a metric of a process grow without bound? Knows nothing of where it was read."""

from collections.abc import Sequence

from deploy.gate.statistics import median


def growth(values: Sequence[float]) -> float | None:
    """The maximum of the last fifth over the maximum of the first two fifths (the first is warm-up); None without
    values. Not the minimum, since memory that the system reclaims comes back. A value above both its neighbours does
    not count: one large image was being decoded at that moment."""
    if not values:
        return None
    calm = [median(values[at - 1 : at + 2]) for at in range(1, len(values) - 1)] or list(values)
    fifth = max(1, len(calm) // 5)
    return max(calm[-fifth:]) / max(calm[: 2 * fifth])
