import msgspec
import numpy as np
import pytest

from deploy.ledger.change_points import ChangePoint, find_change_points, find_release_changes
from deploy.ledger.history import HistoryRow


def noisy(levels: list[float], each: int, seed: int = 0, noise: float = 0.02) -> list[float]:
    random = np.random.default_rng(seed)
    return [level * float(np.exp(random.normal(0, noise))) for level in levels for _ in range(each)]


def test_a_step_is_found_where_it_happened() -> None:
    (changes,) = find_change_points(noisy([1.0, 1.1], 10))
    assert isinstance(changes, ChangePoint)
    assert abs(changes.at - 10) <= 1
    assert changes.change == pytest.approx(0.1, abs=0.03)
    assert changes.p < 0.01


def test_a_level_that_rises_and_falls_again_is_two_changes() -> None:
    first, second = find_change_points(noisy([1.0, 1.2, 1.0], 10))
    assert (first.at, second.at) == (10, 20)
    assert first.change > 0 > second.change


def test_a_constant_level_has_almost_no_false_changes_in_200_histories() -> None:
    """Its own false-alarm rate: the permutation test's 1 %, less what is below 3 %."""
    assert sum(bool(find_change_points(noisy([1.0], 20, seed, 0.05))) for seed in range(200)) <= 6


@pytest.mark.parametrize("values", [[], [1.0] * 5, [1.0] * 20, noisy([1.0, 1.01], 30, noise=0.001)])
def test_too_few_values_or_too_small_a_change_are_not_reported(values: list[float]) -> None:
    assert find_change_points(values) == ()


def test_each_model_and_device_has_its_own_history_and_sentence() -> None:
    blank = dict.fromkeys(HistoryRow.__struct_fields__)
    plain = msgspec.convert(
        {
            **blank,
            "bundle": "b",
            "name": "net",
            "release": "",
            "target": "null",
            "precision": "fp32",
            "device": "Xeon",
            "at": "",
        },
        HistoryRow,
    )
    values = noisy([1.0, 1.1], 8)
    rows = [msgspec.structs.replace(plain, release=str(at + 1), p50_ms=ms) for at, ms in enumerate(values)]
    other = [msgspec.structs.replace(row, device="A6000", p50_ms=0.5) for row in rows]
    (changes,) = find_release_changes([*rows, *other][::-1])
    assert (changes.device, changes.after, changes.began) == ("Xeon", "8", "9")
    assert changes.sentence.startswith("p50 of net (fp32) on Xeon is ")
    assert "% slower since release 9 (level until release 8; p = 0.00" in changes.sentence
