"""Which structures are worth a training, and which recipes are built."""

import pytest

from tests.search.outcomes import outcome
from toolchain.search.final import choose_front
from toolchain.search.front import front_ranks, reason_to_skip


def test_fronts_are_peeled_off_one_by_one() -> None:
    assert front_ranks([(1.0, 1.0), (0.5, 2.0), (1.0, 2.0), (1.0, 3.0), (1.0, 1.0)]) == [0, 0, 1, 2, 0]
    assert front_ranks([]) == []


def test_a_cut_net_that_is_no_faster_is_not_trained() -> None:
    assert reason_to_skip(0.98, 50, True, []) == "no faster than the uncut net: 1.02 times as fast"


def test_an_uncut_net_need_not_be_faster() -> None:
    assert reason_to_skip(1.0, 100, False, []) == ""


def test_what_keeps_less_and_is_slower_than_another_is_not_trained() -> None:
    known = [outcome(3, 0.5, None, macs=80_000_000)]
    reason = reason_to_skip(0.7, 60_000_000, True, known)
    assert "1.43 times as fast with 60.00 million" in reason
    assert "trial 3 is 2.00 times as fast with 80.00" in reason
    assert reason_to_skip(0.7, 90_000_000, True, known) == ""
    assert reason_to_skip(0.51, 60_000_000, True, known) == ""  # within the noise of timing


def test_the_front_of_those_that_meet_the_floor_is_built_the_fastest_first() -> None:
    outcomes = [outcome(0, 0.5, 1.4), outcome(1, 0.6, 0.2), outcome(2, 0.7, 0.9), outcome(3, 0.3, 9.0)]
    assert [each.trial for each in choose_front(outcomes, 1.0, 4)] == [0, 1]  # 1.4 is within its error of 1.0
    assert [each.trial for each in choose_front(outcomes, 1.0, 1)] == [0]


def test_where_none_meets_the_floor_the_nearest_is_built() -> None:
    outcomes = [outcome(0, 0.5, 4.0), outcome(1, 0.6, 3.0)]
    assert [each.trial for each in choose_front(outcomes, 1.0, 4)] == [1]
    assert choose_front([], 1.0, 4) == []


@pytest.mark.parametrize("rungs", [1, 2])
def test_a_recipe_is_built_as_it_was_trained_longest(rungs: int) -> None:
    outcomes = [outcome(0, 0.5, 0.5), outcome(1, 0.5, 0.4, rung=1, recipe=0)][:rungs]
    assert [each.rung for each in choose_front(outcomes, 1.0, 4)] == [rungs - 1]
