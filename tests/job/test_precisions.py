"""Which precisions a recipe's steps order, and what is refused before any work; on the small recipe of test_making."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.job.test_job import QUANTIZE, folder, made, recipe
from toolchain.backends import backend
from toolchain.compress.steps.qat import Qat
from toolchain.data import Split
from toolchain.errors import BackendError, DataError, RecipeError
from toolchain.job.precisions import check_orders, quantization_for, rounding_for, wanted_precisions

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
    assert wanted_precisions(made(recipe(folder, more), target), backend(target)) == expected


def test_each_precision_has_its_own_order(folder: Path) -> None:
    making = made(recipe(folder, QUANTIZE + WEIGHTS), "openvino")
    assert quantization_for(making, "int8").samples == 8  # type: ignore[union-attr]  # None would fail as well
    assert quantization_for(making, "int8d") is quantization_for(making, "fp32") is None
    assert rounding_for(making, "int4w").bits == 4  # type: ignore[union-attr]  # there is one
    assert rounding_for(making, "int2w") is None


@pytest.mark.parametrize(
    ("name", "how"),
    [("int8d", "quantize = { dynamic = true }"), ("int8", "quantize = {}")],
)
def test_a_precision_that_no_step_orders_is_answered_with_the_step(folder: Path, name: str, how: str) -> None:
    with pytest.raises(RecipeError) as caught:
        made(recipe(folder, f'[build]\nprecisions = ["{name}"]\n'))
    assert str(caught.value).endswith(f"names {name}, but no step says how; add [[step]] {how}")


def test_a_precision_that_the_target_lacks_is_answered_with_why(folder: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"onnxruntime has no bf16 \(ONNX Runtime's CPU kernels have no bf16\); it has"
    ):
        made(recipe(folder, '[build]\nprecisions = ["bf16"]\n'))


def test_a_drop_needs_a_validate_part_and_a_target_that_can_keep_it(folder: Path) -> None:
    place = recipe(folder, "[[step]]\nquantize = { samples = 8, max_drop = 1.0 }\n")
    making = made(place, "openvino")
    part = making.data.split("validate")
    none = Split(part.images, part.labels[:0], part.indices[:0])
    bare = replace(making, data=replace(making.data, parts={**making.data.splits, "validate": none}))
    with pytest.raises(DataError, match="folder: max_drop is measured on the validate part, and it has none; remove"):
        check_orders(bare, backend("openvino"))
    with pytest.raises(
        BackendError, match="target onnxruntime cannot keep within max_drop; remove it, or --target=open"
    ):
        made(place)


@pytest.mark.parametrize(
    ("taught", "expected"), [(Qat(weight_bits=4), "int8"), (Qat(weight_bits=1, activation_bits=0), "int1w")]
)
def test_a_net_that_learns_its_quantization_has_that_precision_alone(folder: Path, taught: Qat, expected: str) -> None:
    making = replace(made(recipe(folder), "openvino"), steps=(("qat", taught),))
    assert wanted_precisions(making, backend("openvino")) == (expected,)
    asked = replace(made(recipe(folder, '[build]\nprecisions = ["fp32"]\n'), "openvino"), steps=making.steps)
    with pytest.raises(
        RecipeError, match=f"names fp32, but the net learns its .* training, which makes {expected}; name"
    ):
        wanted_precisions(asked, backend("openvino"))
