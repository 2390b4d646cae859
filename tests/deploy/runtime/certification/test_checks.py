from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pytest

from deploy.runtime.certification.checks import check_accuracy, check_throttling, golden_checks
from deploy.runtime.engines import Engine, Settings, serving_engine
from tests.bundles import null_bundle
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Check
from toolchain.records.manifest import GoldenTolerances
from toolchain.records.tensors import Array, Feeds

SAMPLE_PICTURES = 4  # of the null bundle


class Skewed:
    """The null engine with its answers changed: a fault of the device. `fault` sees all pictures of the sample, at
    their places, however many are asked at once."""

    def __init__(self, bundle: Bundle, fault: Callable[[Array], Array]) -> None:
        self._engine: Engine = serving_engine(bundle, Settings(1))
        self._fault = fault
        self.inputs, self.outputs = self._engine.inputs, self._engine.outputs
        self.version, self.requests = "skewed", 1
        self._asked = 0

    def infer(self, feeds: Feeds) -> dict[str, Array]:
        [(name, answer)] = self._engine.infer(feeds).items()
        first, self._asked = self._asked, self._asked + len(answer)
        whole = np.zeros((max(SAMPLE_PICTURES, self._asked), *answer.shape[1:]), answer.dtype)
        whole[first : self._asked] = answer
        return {name: self._fault(whole)[first : self._asked]}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


def failed(bundle: Bundle, fault: Callable[[Array], Array]) -> list[Check]:
    with Skewed(bundle, fault) as engine:
        return [check for check in golden_checks(bundle, engine) if not check.passed]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return null_bundle(tmp_path / "null.bundle")


def test_a_wrong_golden_answer_fails_with_its_picture(bundle: Bundle) -> None:
    def wrong(answers: Array) -> Array:
        answers[2, 3] = 0.5
        return answers

    assert failed(bundle, wrong) == [
        Check("golden distance", False, "0.5 of the largest answer, at image 2", "at most 0.001"),
        Check("golden top-1", False, "75.0% agree", "at least 100.0%"),
    ]


def test_answers_that_are_not_numbers_fail(bundle: Bundle) -> None:
    checks = failed(bundle, lambda answers: np.full_like(answers, np.nan))
    assert checks == [Check("golden finite", False, "16 of 16 answers are NaN or infinite", "all finite")]


def test_answers_of_another_shape_fail(bundle: Bundle) -> None:
    assert failed(bundle, lambda answers: answers[:, :2]) == [Check("golden shape", False, "[4, 2]", "[4, 4]")]


def test_a_precision_without_golden_answers_fails_by_name(bundle: Bundle) -> None:
    with serving_engine(bundle, Settings(1)) as engine:
        check = golden_checks(bundle, engine, "int8")[-1]
    assert check == Check("golden", False, "sample.npz holds inputs, outputs_fp32", "outputs_int8 in sample.npz")


def test_a_precision_without_a_golden_limit_fails_by_name(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle", golden=GoldenTolerances({}, {}))
    with serving_engine(bundle, Settings(1)) as engine:
        check = golden_checks(bundle, engine)[-1]
    assert check == Check("golden", False, "the manifest has limits for nothing", "a limit for fp32")


@pytest.mark.parametrize(
    ("right", "images", "built", "passed"),
    [
        *((905, 1000, 0.915, True), (904, 1000, 0.915, False), (950, 1000, 0.915, True)),
        *((18, 20, 0.95, True), (17, 20, 0.95, False), (3, 20, None, True)),
    ],
)
def test_one_point_or_one_picture_may_be_lost(right: int, images: int, built: float | None, passed: bool) -> None:
    assert check_accuracy((right, images), built).passed is passed


def test_throttling_is_told_and_fails_nothing() -> None:
    assert check_throttling(0).found == "none"
    told = check_throttling(12)
    assert (told.passed, told.found) == (
        True,
        "throttled in 12 CPU periods: latencies measured now would mislead",
    )
