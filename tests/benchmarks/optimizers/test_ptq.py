"""What the bench of optimizers counts, and which of them it compares with ours."""

import numpy as np

from benchmarks.optimizers.ptq import OURS, Side, code_lines, is_as_accurate, side_rows
from tests.backends.tiny import tiny_images


def side(name, wrong, lines=10, minutes=1.0):
    right = np.arange(1000) >= wrong
    return Side(name, lambda image: image, right.astype(np.int64), right, minutes, 0.5, lines)


def test_only_lines_of_code_are_counted(tmp_path):
    file = tmp_path / "program.py"
    file.write_text('"""What it is."""\n\n# a reason\nimport nncf\n\nnncf.quantize()  # here\n')
    assert code_lines(file) == 2


def test_what_differs_by_noise_is_as_accurate_and_what_loses_more_is_not():
    ours = side(OURS, 100)
    assert is_as_accurate(side("same", 100), ours)
    assert is_as_accurate(side("two more wrong", 102), ours)
    assert is_as_accurate(side("better", 50), ours)
    assert not is_as_accurate(side("thirty more wrong", 130), ours)


def test_ours_is_compared_with_the_fastest_that_is_as_accurate(monkeypatch):
    sides = [side("fast and wrong", 400), side("slow", 100), side("slower", 100), side(OURS, 100, minutes=0.5)]
    times = {"fast and wrong": 1.0, "slow": 6.0, "slower": 9.0, OURS: 3.0}
    monkeypatch.setattr("benchmarks.optimizers.ptq.in_turn_ms", lambda callers: {name: times[name] for name in callers})
    *_, speed, minutes = side_rows(sides, tiny_images(32))
    assert (speed.value, speed.holds) == (2.0, True)
    assert (minutes.value, minutes.holds) == (0.5, True)
    assert speed.note.startswith("slow: ")


def test_without_ours_nothing_holds(monkeypatch):
    monkeypatch.setattr("benchmarks.optimizers.ptq.in_turn_ms", lambda callers: dict.fromkeys(callers, 1.0))
    assert not list(side_rows([side("other", 100)], tiny_images(32)))[-1].holds
