"""A recipe whose net learns its quantization in training, built whole: one precision, no calibration after export."""

from pathlib import Path

import pytest

from tests.job.test_job import QUANTIZE, built, folder, read, recipe
from toolchain.errors import RecipeError

__all__ = ["folder"]  # the fixture
QAT = "[[step]]\nqat = { epochs = 1, batch_size = 8, calibration_samples = 8, distill = false }\n"
LOOSE = "[build]\nmax_accuracy_loss = 100.0\n"


@pytest.mark.slow
@pytest.mark.parametrize("target", ["openvino", "onnxruntime", "null"])
def test_a_quantization_aware_model_is_built_in_int8_only(folder: Path, target: str) -> None:
    manifest = built(recipe(folder, QAT + LOOSE), target)
    assert [candidate.precision for candidate in manifest.candidates] == ["int8"]
    assert manifest.chosen == "int8"
    assert [row.candidate for row in manifest.parity][:1] == ["onnxruntime int8"]


def test_quantizing_it_again_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"small.toml: step 2, quantize: comes after qat \(step 1\)"):
        read(recipe(folder, QAT + QUANTIZE))
