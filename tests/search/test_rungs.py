"""Who is trained further, and what a short training foretells."""

from tests.search.outcomes import outcome
from toolchain.search.rungs import expected_gain, next_promotion, search_points


def test_nothing_goes_on_before_there_are_enough_to_choose_from() -> None:
    assert next_promotion([outcome(0, 0.5, 3.0), outcome(1, 0.6, 2.0)], 3, 3, 1.0) is None


def test_of_three_the_one_on_the_front_that_is_nearest_to_the_floor_goes_on() -> None:
    outcomes = [outcome(0, 0.5, 3.0), outcome(1, 0.6, 2.0), outcome(2, 0.7, 4.0)]
    chosen = next_promotion(outcomes, 3, 3, 1.0)
    assert chosen is not None
    assert chosen.trial == 1


def test_of_those_that_meet_the_floor_the_fastest_goes_on() -> None:
    outcomes = [outcome(0, 0.5, 0.9), outcome(1, 0.6, 0.2), outcome(2, 0.7, 4.0)]
    chosen = next_promotion(outcomes, 3, 3, 1.0)
    assert chosen is not None
    assert chosen.trial == 0


def test_a_recipe_goes_on_once() -> None:
    outcomes = [outcome(0, 0.5, 3.0), outcome(1, 0.6, 2.0), outcome(2, 0.7, 4.0)]
    assert next_promotion([*outcomes, outcome(3, 0.6, 1.0, rung=1, recipe=1)], 3, 3, 1.0) is None


def test_a_recipe_that_another_worker_is_at_does_not_go_on_here() -> None:
    outcomes = [outcome(0, 0.5, 3.0), outcome(1, 0.6, 2.0), outcome(2, 0.7, 4.0)]
    assert next_promotion(outcomes, 3, 3, 1.0, [(outcomes[1].proposal.key, 1)]) is None


def test_one_whose_further_training_was_impossible_is_not_tried_again() -> None:
    outcomes = [outcome(0, 0.5, 3.0), outcome(1, 0.6, 2.0), outcome(2, 0.7, 4.0)]
    assert next_promotion([*outcomes, outcome(3, 0.0, None, rung=1, recipe=1)], 3, 3, 1.0) is None


def test_the_longest_trained_go_on_first() -> None:
    first = [outcome(number, 0.5 + number / 100, 3.0) for number in range(9)]
    second = [outcome(10 + number, 0.5 + number / 100, 2.0, rung=1, recipe=number) for number in range(3)]
    chosen = next_promotion([*first, *second], 3, 3, 1.0)
    assert chosen is not None
    assert (chosen.rung, chosen.trial) == (1, 10)


def test_what_training_wins_back_is_foretold_with_its_error_once_two_were_trained_on() -> None:
    outcomes = [outcome(0, 0.5, 4.0), outcome(1, 0.6, 3.0), outcome(2, 0.7, 2.0)]
    assert expected_gain(outcomes, 0, 1).error is None
    outcomes += [outcome(3, 0.5, 2.0, rung=1, recipe=0), outcome(4, 0.6, 2.0, rung=1, recipe=1)]
    gain = expected_gain(outcomes, 0, 1)
    assert gain.points == 1.5
    assert gain.error is not None
    assert round(gain.error, 3) == 0.707
    point = next(point for point in search_points(outcomes, (1, 3)) if point.trial == 2)
    assert (point.epochs, point.loss, point.foretold) == (1, 2.0, 0.5)


def test_a_recipe_is_one_point_by_its_longest_training() -> None:
    outcomes = [outcome(0, 0.5, 4.0), outcome(1, 0.5, 2.0, rung=1, recipe=0), outcome(2, 0.9, None)]
    points = search_points(outcomes, (1, 3))
    assert [(point.trial, point.epochs, point.is_front) for point in points] == [(1, 4, True), (2, 0, False)]
