"""Weights alone at 8, 4, 2 or 1 bits after training, no calibration: an order to the backend, as `quantize` is.

The backend rounds them on its own graph (backends/rounding.py) and computes in fp32, so this saves room, not time.
1 bit: sign times mean |w| (Rastegari et al. 2016). Knows nothing of accuracy: each width is a candidate that the engine
measures.
"""

from dataclasses import replace
from typing import Annotated, Literal

import msgspec

from toolchain.compress.layer_patterns import check_patterns
from toolchain.compress.step import CompressedModel, StepContext, WeightRounding
from toolchain.errors import RecipeError


class QuantizeWeights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """group: so many weights of an output channel share a scale; None: all of them (a layer whose weights do not divide
    into groups has one a channel). clip: the scale of least squared error, else of the largest weight. keep_ends: the
    first and the last layer, which suffer most and weigh least, at 8 bits. ignore: layers left in float."""

    bits: Literal[8, 4, 2, 1] = 8
    group: Annotated[int, msgspec.Meta(ge=2)] | None = None
    clip: bool = True
    keep_ends: bool = True
    ignore: tuple[str, ...] = ()

    def check(self, context: StepContext) -> None:
        """Nothing to refuse: it looks at no data."""

    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel:
        check_patterns(net.module, self.ignore, "ignore")
        return self.apply(net, context)

    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel:  # noqa: ARG002
        """The same module, with the order to round its weights; RecipeError when one for this width stands already."""
        if net.learned is not None:
            raise RecipeError("the net learned its quantization in training; quantize_weights would round it again")
        if any(one.bits == self.bits for one in net.rounding):
            raise RecipeError(f"the weights are rounded to {self.bits} bits already; one such step is enough")
        return replace(net, rounding=(*net.rounding, self.rounding), history=())

    @property
    def rounding(self) -> WeightRounding:
        """The order as the backend's caller takes it."""
        return msgspec.convert(msgspec.to_builtins(self), WeightRounding)
