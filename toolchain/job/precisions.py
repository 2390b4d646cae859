"""What a recipe's steps order from the back end after export, and so which precisions are built.

Knows steps and back ends; makes nothing. A net that learned its quantization in training has one precision: what it
learned. Else fp32 and bf16 are built (fp16, the same answers in half the bytes, where size is preferred), and what each
`quantize` and `quantize_weights` step orders.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING

from toolchain.backends import Backend
from toolchain.compress.step import LearnedQuantization, Quantization, WeightRounding
from toolchain.errors import BackendError, RecipeError
from toolchain.job.samples import check_calibration, check_validation
from toolchain.records.manifest import WEIGHT_BITS, Precision

if TYPE_CHECKING:
    from toolchain.job.job import Making

logger = logging.getLogger(__name__)


FLOATS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
WEIGHT_ONLY: dict[int, Precision] = {8: "int8w", 4: "int4w", 2: "int2w", 1: "int1w"}
HOW = {
    "int8": "quantize = {}",
    "int8d": "quantize = { dynamic = true }",
    **{name: f"quantize_weights = {{ bits = {bits} }}" for name, bits in WEIGHT_BITS.items()},
}


def quantization(making: "Making") -> Quantization | None:
    """How the recipe wants int8 made after training; None when no step says."""
    from toolchain.compress.steps.quantize import Quantize

    found = [step.quantization for _, step in making.steps if isinstance(step, Quantize)]
    return found[0] if found else None


def roundings(making: "Making") -> tuple[WeightRounding, ...]:
    """The widths to which weights alone are rounded after training, and how."""
    from toolchain.compress.steps.quantize_weights import QuantizeWeights

    return tuple(step.rounding for _, step in making.steps if isinstance(step, QuantizeWeights))


def learned(making: "Making") -> LearnedQuantization | None:
    """What quantization the net learns in training, or had learned before; None when no step teaches any."""
    from toolchain.compress.quantization.restore import learned_quantization
    from toolchain.compress.steps.qat import Qat
    from toolchain.models import read_weights_record

    found = [step for _, step in making.steps if isinstance(step, Qat)]
    if found:
        return LearnedQuantization(found[0].weight_bits, found[0].activation_bits or None, found[0].symmetric)
    return learned_quantization(read_weights_record(making.recipe.model, making.base))


def quantization_for(making: "Making", precision: Precision) -> Quantization | None:
    """The order that makes `precision`; None when none does, and for what training learned."""
    how = quantization(making)
    return how if how is not None and precision == _precision(how) else None


def rounding_for(making: "Making", precision: Precision) -> WeightRounding | None:
    """Likewise, of weights alone."""
    return next((one for one in roundings(making) if WEIGHT_ONLY[one.bits] == precision), None)


def wanted_precisions(making: "Making", room: Backend) -> tuple[Precision, ...]:
    """What is to be built: what the recipe names, else what the back end has of what the recipe says how to make."""
    ordered, asked = set(_ordered(making)), making.recipe.build.precisions
    if asked is None:
        floats = (
            set() if learned(making) else set(FLOATS if making.recipe.build.prefer == "size" else room.DEFAULT_FLOATS)
        )
        wanted = tuple(one for one in room.PRECISIONS if one in ordered | floats)
        if not wanted:
            raise RecipeError(f"{making.place}: {_lacks(making, room, next(iter(ordered)))}")
        return wanted
    for one in asked:
        if one not in room.PRECISIONS:
            raise RecipeError(f"{making.place}: build.precisions: {_lacks(making, room, one)}")
        if one not in ordered and learned(making):
            raise RecipeError(
                f"{making.place}: build.precisions names {one}, but the net learns its quantization in training, which "
                f"makes {', '.join(ordered)}; name that, or leave precisions out"
            )
        if one in HOW and one not in ordered:
            raise RecipeError(
                f"{making.place}: build.precisions names {one}, but no step says how; add [[step]] {HOW[one]}"
            )
    return asked


def check_orders(making: "Making", room: Backend) -> None:
    """What the orders cannot work with is refused; an order that this back end does not take is told.

    DataError: too few calibration pictures, none to measure a drop on. BackendError: no control of accuracy there.
    """
    wanted, how = wanted_precisions(making, room), quantization(making)
    for one in _ordered(making):
        if one not in wanted:
            why = f" ({room.REASONS[one]})" if one in room.REASONS else ""
            step = HOW[one].split(" ")[0]
            logger.info(f"{making.target}: no {one} among its precisions{why}; the {step} step is not used")
    if how is None or _precision(how) not in wanted or how.dynamic:
        return
    check_calibration(making.pictures, how.samples)
    if how.max_drop is not None:
        check_validation(making.data)
        if not room.CONTROLS_ACCURACY:
            raise BackendError(f"target {making.target} cannot keep within max_drop; remove it, or --target=openvino")


def _ordered(making: "Making") -> Iterator[Precision]:
    if (taught := learned(making)) is not None:
        yield WEIGHT_ONLY[taught.weight_bits] if taught.activation_bits is None else "int8"
    if (how := quantization(making)) is not None:
        yield _precision(how)
    yield from (WEIGHT_ONLY[one.bits] for one in roundings(making))


def _precision(how: Quantization) -> Precision:
    return "int8d" if how.dynamic else "int8"


def _lacks(making: "Making", room: Backend, precision: str) -> str:
    why = f" ({room.REASONS[precision]})" if precision in room.REASONS else ""
    return f"{making.target} has no {precision}{why}; it has: {', '.join(room.PRECISIONS)}"
