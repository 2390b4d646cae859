"""Convolutions, linear layers and additions that compute on an integer grid, as an integer engine will.

They keep the parameter names `weight` and `bias`, so that pruning masks, checkpoints and parameter groups keep working.
The grids come from fake_quantize.py, their places in a model from prepare.py.
"""

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.quantization.fake_quantize import ActivationQuantizer, WeightQuantizer


class QuantizedConv2d(nn.Conv2d):
    """A Conv2d with weights on a grid, and its input too unless that stays in float."""

    weight_quantizer: WeightQuantizer
    input_quantizer: ActivationQuantizer | None

    def forward(self, x: Tensor) -> Tensor:
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        answer: Tensor = self._conv_forward(x, self.weight_quantizer(self.weight), self.bias)
        return answer


class QuantizedLinear(nn.Linear):
    """A Linear with weights on a grid, and its input too unless that stays in float."""

    weight_quantizer: WeightQuantizer
    input_quantizer: ActivationQuantizer | None

    def forward(self, x: Tensor) -> Tensor:
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        return functional.linear(x, self.weight_quantizer(self.weight), self.bias)


class QuantizedAdd(nn.Module):
    """The sum of two feature maps, both on a grid: engines fuse an addition into a convolution only if both operands
    are integers. An operand whose quantizer is None stays as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.left_quantizer: ActivationQuantizer | None
        self.right_quantizer: ActivationQuantizer | None
        for slot in QUANTIZER_SLOTS[QuantizedAdd]:
            self.register_module(slot, None)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        if self.left_quantizer is not None:
            left = self.left_quantizer(left)
        if self.right_quantizer is not None:
            right = self.right_quantizer(right)
        return left + right


QuantizedLayer = QuantizedConv2d | QuantizedLinear
QUANTIZER_SLOTS = {
    QuantizedConv2d: ("input_quantizer",),
    QuantizedLinear: ("input_quantizer",),
    QuantizedAdd: ("left_quantizer", "right_quantizer"),
}


def quantize_layer(layer: nn.Conv2d | nn.Linear, bits: int, learned: bool, full_range: bool = False) -> QuantizedLayer:
    """Turn `layer` in place into its quantized class; its input stays in float until a quantizer is attached."""
    layer.__class__ = QuantizedConv2d if isinstance(layer, nn.Conv2d) else QuantizedLinear
    quantized = cast("QuantizedLayer", layer)
    quantized.weight_quantizer = WeightQuantizer(layer.weight, bits, learned, full_range)
    quantized.register_module("input_quantizer", None)
    return quantized
