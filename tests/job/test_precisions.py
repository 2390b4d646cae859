"""Which precisions a recipe's steps order, and what is refused before any work; on the small recipe of test_job."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.job.test_job import QUANTIZE, folder, read, recipe
from toolchain.backends import backend
from toolchain.compress.steps.qat import Qat
from toolchain.data import Split
from toolchain.errors import BackendError, DataError, RecipeError
from toolchain.job.precisions import check_orders, plan_quantization, requested_precisions
from toolchain.recipe import BuildSpec

__all__ = ["folder"]  # the fixture
WEIGHTS = "[[step]]\nquantize_weights = { bits = 4 }\n[[step]]\nquantize_weights = { bits = 1 }\n"
DYNAMIC = "[[step]]\nquantize = { dynamic = true }\n"


@pytest.mark.parametrize(
    ("more", "target", "expected"),
    [
        ("", "openvino", ("fp32", "bf16")),
        (QUANTIZE, "openvino", ("fp32", "bf16", "int8")),
        (QUANTIZE + WEIGHTS, "openvino", ("fp32", "bf16", "int8", "int4w", "int1w")),
        ('[build]\nprefer = "size"\n', "openvino", ("fp32", "fp16", "bf16")),
        (DYNAMIC, "onnxruntime", ("fp32", "int8d")),
        (DYNAMIC, "openvino", ("fp32", "bf16")),
        (QUANTIZE, "onnxruntime", ("fp32", "int8")),
    ],
)
def test_what_is_built_is_what_the_steps_order_and_the_target_has(
    folder: Path, more: str, target: str, expected: tuple[str, ...]
) -> None:
    assert read(recipe(folder, more), target).precisions == expected


def test_each_precision_has_its_own_order(folder: Path) -> None:
    plan = read(recipe(folder, QUANTIZE + WEIGHTS), "openvino").plan
    assert plan.quantization_for("int8").samples == 8  # type: ignore[union-attr]  # None would fail as well
    assert plan.quantization_for("int8d") is plan.quantization_for("fp32") is None
    assert plan.rounding_for("int4w").bits == 4  # type: ignore[union-attr]  # there is one
    assert plan.rounding_for("int2w") is None


@pytest.mark.parametrize(
    ("name", "how"),
    [("int8d", "quantize = { dynamic = true }"), ("int8", "quantize = {}")],
)
def test_a_precision_that_no_step_orders_is_answered_with_the_step(folder: Path, name: str, how: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read(recipe(folder, f'[build]\nprecisions = ["{name}"]\n'))
    assert str(caught.value).endswith(f"names {name}, but no step says how; add [[step]] {how}")


def test_a_precision_that_the_target_lacks_is_answered_with_why(folder: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"onnxruntime has no bf16 \(ONNX Runtime's CPU kernels have no bf16\); it has"
    ):
        read(recipe(folder, '[build]\nprecisions = ["bf16"]\n'))


def test_a_drop_needs_a_validate_part_and_a_target_that_can_keep_it(folder: Path) -> None:
    place = recipe(folder, "[[step]]\nquantize = { samples = 8, max_drop = 1.0 }\n")
    job = read(place, "openvino")
    part = job.data.split("validate")
    none = Split(part.images, part.labels[:0], part.indices[:0])
    bare = replace(job.data, splits={**job.data.splits, "validate": none})
    with pytest.raises(DataError, match="folder: max_drop is measured on the validate split, and it has none; remove"):
        check_orders(job.plan, job.precisions, backend("openvino"), bare, job.calibration)
    with pytest.raises(
        BackendError, match="target onnxruntime cannot keep within max_drop; remove it, or --target=open"
    ):
        read(place)


@pytest.mark.parametrize(
    ("qat", "expected"), [(Qat(weight_bits=4), "int8"), (Qat(weight_bits=1, activation_bits=0), "int1w")]
)
def test_a_model_that_learns_its_quantization_has_that_precision_alone(qat: Qat, expected: str) -> None:
    plan, openvino = plan_quantization((("qat", qat),), None), backend("openvino")
    assert requested_precisions(plan, BuildSpec(), openvino, "small.toml") == (expected,)
    with pytest.raises(
        RecipeError, match=f"names fp32, but the model learns its .* training, which makes {expected}; name"
    ):
        requested_precisions(plan, BuildSpec(precisions=("fp32",)), openvino, "small.toml")
