"""The distillation benchmark's arithmetic; the runs themselves are the benchmark's."""

from math import sqrt
from pathlib import Path

import pytest

from benchmarks.compression.distillation import lines_of, rows, table_of
from benchmarks.compression.distillation_runs import CODE, KINDS, NONE, Kind, Run, teachers_for
from toolchain.compress import TABLE
from toolchain.job.code_digest import SourceTree

THREE = (Kind(NONE, "finetune", teachers=()), Kind("one", "distill", least_gain=0.5), Kind("two", "distill_hints"))


def runs(name: str, *shares: float) -> list[Run]:
    return [Run(name, seed, share, 1.0) for seed, share in enumerate(shares)]


def test_every_kind_of_the_table_is_measured() -> None:
    steps = {kind.step for kind in KINDS}
    assert steps >= {name for name in TABLE if name.startswith(("distill", "born"))}


def test_a_run_depends_on_the_code_of_its_step() -> None:
    assert SourceTree().reachable_modules(CODE) >= {TABLE[kind.step].partition(":")[0] for kind in KINDS}


def test_a_gain_is_compared_with_its_bound_and_its_noise() -> None:
    lines = lines_of([*runs(NONE, 0.70, 0.72), *runs("one", 0.72, 0.74), *runs("two", 0.70, 0.72)], THREE)
    noise = 200 * sqrt(0.0002 / 2 + 0.0002 / 2)
    assert [line.gain for line in lines] == pytest.approx([0.0, 2.0, 0.0])
    assert [line.noise for line in lines] == pytest.approx([noise] * 3)
    assert [row.holds for row in rows(lines)] == [True, True]
    assert "one" in table_of(lines)


def test_a_kind_that_is_worse_beyond_noise_fails_unless_it_gives_a_reason() -> None:
    kinds = (*THREE[:2], Kind("two", "distill_hints", reason="too few epochs"))
    shares = [*runs(NONE, 0.70, 0.70), *runs("one", 0.704, 0.704), *runs("two", 0.60, 0.60)]
    assert [row.holds for row in rows(lines_of(shares, THREE))] == [False, False]
    lines = rows(lines_of(shares, kinds))
    assert [row.holds for row in lines] == [False, True]
    assert lines[1].note == "60.00%; too few epochs"


def test_with_one_seed_the_noise_is_that_of_the_test_images() -> None:
    lines = lines_of([*runs(NONE, 0.5), *runs("one", 0.5), *runs("two", 0.5)], THREE)
    assert lines[1].noise == pytest.approx(200 * sqrt(2 * 0.25 / 10_000))
    assert lines[1].std is None


def test_a_kind_that_was_not_run_fails_with_advice() -> None:
    lines = rows(lines_of([*runs(NONE, 0.5), *runs("one", 0.6)], THREE))[1]
    assert (lines.value, lines.holds) == (None, False)
    assert lines.note == "no net of another family in examples/cifar10"


def test_only_teachers_whose_files_exist_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.compression.distillation_runs.EXAMPLES", tmp_path)
    assert teachers_for(Kind("", "distill", teachers=("first", "second")), tmp_path) is None
    (tmp_path / "vgg11.safetensors").touch()
    lines = teachers_for(Kind("", "distill", teachers=("second", "onnx")), tmp_path)
    assert lines == [
        {"source": "cifar:vgg11", "weights": str(tmp_path / "vgg11.safetensors")},
        {"source": str(tmp_path / "resnet20.onnx")},
    ]
