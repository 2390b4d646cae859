"""Seconds of starts -> rows; that a container is started and killed is seen by running it."""

import pytest

from benchmarks.serving.container import rows


def test_the_median_start_and_the_slowest_restart_are_compared() -> None:
    size, start, again = rows(243_500_000, [1.0, 1.2, 9.0], [1.1, 3.2, 1.3])
    assert (size.value, size.bound, size.holds) == (pytest.approx(243.5), "<= 250 MB", True)
    assert (start.value, start.bound, start.holds) == (1.2, "< 1.5 s", True)
    assert (again.value, again.bound, again.holds) == (3.2, "< 3 s", False)
    assert "1.00 1.20 9.00 s" in start.note


def test_a_row_that_was_not_measured_fails_with_the_reason() -> None:
    size, start, again = rows(250_000_001, [0.5], [], "killing needs root")
    assert (size.holds, start.holds) == (False, True)
    assert (again.value, again.holds, again.note) == (None, False, "killing needs root")
    assert [row.note for row in rows(None, [], [], "no Docker Engine")] == ["no Docker Engine"] * 3
