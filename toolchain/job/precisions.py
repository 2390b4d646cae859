"""Which precisions a build is to make, and how: what the recipe's steps order from the back end after export.

Knows steps and back ends; makes nothing. A model that learned its quantization in training has one precision: what it
learned. Otherwise the back end's float precisions are built (fp16 where size is preferred: the same answers in half the
bytes), and what each `quantize` and `quantize_weights` step orders.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolchain.backends import Backend
from toolchain.errors import BackendError, RecipeError
from toolchain.job.samples import check_calibration, check_validation
from toolchain.records.manifest import WEIGHT_BITS, Precision

if TYPE_CHECKING:
    from toolchain.compress import NamedSteps
    from toolchain.compress.step import LearnedQuantization, Quantization, WeightRounding
    from toolchain.data import DataSet
    from toolchain.recipe import BuildSpec
    from toolchain.records.weights import Weights

logger = logging.getLogger(__name__)

FLOATS: tuple[Precision, ...] = ("fp32", "fp16", "bf16")
WEIGHT_ONLY: dict[int, Precision] = {8: "int8w", 4: "int4w", 2: "int2w", 1: "int1w"}
STEP_FOR = {
    "int8": "quantize = {}",
    "int8d": "quantize = { dynamic = true }",
    **{name: f"quantize_weights = {{ bits = {bits} }}" for name, bits in WEIGHT_BITS.items()},
}


@dataclass(frozen=True)
class QuantizationPlan:
    """How a model's weights and activations are to be narrowed. learned: by training, in this recipe or before it.
    post_training: int8 by the back end; None when no step orders it. roundings: widths of weights alone."""

    learned: "LearnedQuantization | None" = None
    post_training: "Quantization | None" = None
    roundings: "tuple[WeightRounding, ...]" = ()

    def quantization_for(self, precision: Precision) -> "Quantization | None":
        """The order that makes `precision`; None when none does, and for what training learned."""
        how = self.post_training
        return how if how is not None and precision == _precision_of(how) else None

    def rounding_for(self, precision: Precision) -> "WeightRounding | None":
        """The order that rounds weights alone to `precision`; None when none does."""
        return next((order for order in self.roundings if WEIGHT_ONLY[order.bits] == precision), None)

    def ordered_precisions(self) -> Iterator[Precision]:
        """The narrow precisions that the steps order."""
        if (learned := self.learned) is not None:
            yield WEIGHT_ONLY[learned.weight_bits] if learned.activation_bits is None else "int8"
        if self.post_training is not None:
            yield _precision_of(self.post_training)
        yield from (WEIGHT_ONLY[order.bits] for order in self.roundings)


def plan_quantization(steps: "NamedSteps", weights: "Weights | None") -> QuantizationPlan:
    """What the steps order. weights: what the model's own file says of itself, where it was quantized in training."""
    from toolchain.compress.quantization.restore import learned_quantization
    from toolchain.compress.steps.qat import Qat
    from toolchain.compress.steps.quantize import Quantize
    from toolchain.compress.steps.quantize_weights import QuantizeWeights

    learned = [step.learned for _, step in steps if isinstance(step, Qat)]
    post_training = [step.quantization for _, step in steps if isinstance(step, Quantize)]
    roundings = tuple(step.rounding for _, step in steps if isinstance(step, QuantizeWeights))
    return QuantizationPlan(
        learned[0] if learned else learned_quantization(weights), post_training[0] if post_training else None, roundings
    )


def requested_precisions(
    plan: QuantizationPlan, build: "BuildSpec", room: Backend, where: str
) -> tuple[Precision, ...]:
    """What is to be built: what the recipe names, else what the back end has of what the steps order. RecipeError that
    begins with `where`."""
    ordered = tuple(plan.ordered_precisions())
    if build.precisions is None:
        floats = () if plan.learned else FLOATS if build.prefer == "size" else room.DEFAULT_FLOATS
        chosen = tuple(precision for precision in room.PRECISIONS if precision in (*ordered, *floats))
        if not chosen:
            raise RecipeError(f"{where}: {_lacks(room, ordered[0])}")
        return chosen
    for precision in build.precisions:
        if precision not in room.PRECISIONS:
            raise RecipeError(f"{where}: build.precisions: {_lacks(room, precision)}")
        if precision not in ordered and plan.learned:
            raise RecipeError(
                f"{where}: build.precisions names {precision}, but the model learns its quantization in training, "
                f"which makes {', '.join(ordered)}; name that, or leave precisions out"
            )
        if precision in STEP_FOR and precision not in ordered:
            raise RecipeError(
                f"{where}: build.precisions names {precision}, but no step says how; add [[step]] {STEP_FOR[precision]}"
            )
    return build.precisions


def check_orders(
    plan: QuantizationPlan, precisions: tuple[Precision, ...], room: Backend, data: "DataSet", calibration: "DataSet"
) -> None:
    """Refuse orders that cannot work; log those that this back end does not carry out.

    DataError: too few calibration images, none to measure a drop on. BackendError: no control of accuracy there.
    """
    for precision in plan.ordered_precisions():
        if precision not in precisions:
            step = STEP_FOR[precision].split(" ")[0]
            logger.info(
                f"{room.NAME}: no {precision} among its precisions{_reason(room, precision)}; the {step} step is not "
                "used"
            )
    how = plan.post_training
    if how is None or _precision_of(how) not in precisions or how.dynamic:
        return
    check_calibration(calibration, how.samples)
    if how.max_drop is not None:
        check_validation(data)
        if not room.CONTROLS_ACCURACY:
            raise BackendError(f"target {room.NAME} cannot keep within max_drop; remove it, or --target=openvino")


def _precision_of(how: "Quantization") -> Precision:
    return "int8d" if how.dynamic else "int8"


def _reason(room: Backend, precision: str) -> str:
    return f" ({room.REASONS[precision]})" if precision in room.REASONS else ""


def _lacks(room: Backend, precision: str) -> str:
    return f"{room.NAME} has no {precision}{_reason(room, precision)}; it has: {', '.join(room.PRECISIONS)}"
