"""Configures weight-only quantization to 8, 4, 2 or 1 bits after training, without calibration.

The backend rounds the weights of its own graph (backends/rounding.py) and computes in fp32, which saves space, not
time. 1 bit: sign times mean |w| (Rastegari et al. 2016). Accuracy is measured later: each bit width is a candidate of
its own.
"""

from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from toolchain.compress.layer_patterns import check_patterns
from toolchain.compress.step import CompressedModel, StepContext, WeightRounding
from toolchain.errors import RecipeError


class QuantizeWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """group: how many weights of an output channel share a scale; None: all of them (so do layers whose weights do not
    divide into groups). clip: use the scale with the smallest squared error, not that of the largest weight. keep_ends:
    keep the first and the last layer, the most sensitive and smallest, at 8 bits. ignore: layers that stay in float."""

    bits: Literal[8, 4, 2, 1] = 8
    group: Annotated[int, msgspec.Meta(ge=2)] | None = None
    clip: bool = True
    keep_ends: bool = True
    ignore: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:
        """Does nothing: the step uses no data."""

    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel:
        check_patterns(model.module, self.ignore, "ignore")
        return self.apply(model, context)

    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel:  # noqa: ARG002  # Step's signature
        """The same module with the rounding options attached; RecipeError when some for this bit width are attached
        already."""
        if model.learned is not None:
            raise RecipeError("the model learned its quantization in training; quantize_weights would round it again")
        if any(rounding.bits == self.bits for rounding in model.rounding):
            raise RecipeError(f"the weights are rounded to {self.bits} bits already; one such step is enough")
        return replace(model, rounding=(*model.rounding, self.rounding), history=())

    @property
    def rounding(self) -> WeightRounding:
        """The options as the backend takes them."""
        return msgspec.convert(msgspec.to_builtins(self), WeightRounding)
