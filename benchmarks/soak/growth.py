"""Does a figure of a process grow without end? Knows nothing of where it was read."""

from collections.abc import Sequence


def growth(values: Sequence[float]) -> float | None:
    """The most in the last fifth against the most in the first two, of which the first is warm-up; None where nothing
    was read. Not the least: what the system takes back when others need it comes again."""
    if not values:
        return None
    fifth = max(1, len(values) // 5)
    return max(values[-fifth:]) / max(values[: 2 * fifth])
