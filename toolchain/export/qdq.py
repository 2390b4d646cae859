"""Layers of quantization-aware training as ONNX operators: QuantizeLinear, DequantizeLinear, and integer weights.

The exporter writes what a module's forward() calls, so each quantized layer is replaced by one that calls ONNX's own
operators. Knows nothing of how the scales were learned.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.quantization.fake_quantize import ActivationQuantizer
from toolchain.compress.quantization.quantized_layers import (
    QUANTIZER_SLOTS,
    QuantizedConv2d,
    QuantizedLayer,
    QuantizedLinear,
)


class ActivationGrid(nn.Module):
    """A tensor of any shape, quantized to uint8 and dequantized."""

    def __init__(self, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        scale, zero_point = quantizer.grid()
        self.register_buffer("scale", scale.detach().reshape(()).clone())
        self.register_buffer("zero_point", zero_point.to(torch.uint8).reshape(()).clone())

    def forward(self, x: Tensor) -> Tensor:
        grid = (self.get_buffer("scale"), self.get_buffer("zero_point"))
        integers = torch.onnx.ops.symbolic("QuantizeLinear", (x, *grid), dtype=torch.uint8, shape=x.shape)
        return torch.onnx.ops.symbolic("DequantizeLinear", (integers, *grid), dtype=torch.float32, shape=x.shape)


class WeightGrid(nn.Module):
    """Weights as int8 integers with a scale per output channel; the float weights are dropped."""

    def __init__(self, layer: QuantizedLayer) -> None:
        super().__init__()
        scale = layer.weight_quantizer.grid(layer.weight).scale.detach()
        self.register_buffer("integers", layer.weight_quantizer.integers(layer.weight))
        self.register_buffer("scale", scale.clone())
        self.register_buffer("zero_point", torch.zeros_like(scale, dtype=torch.int8))

    def forward(self) -> Tensor:
        integers, scale, zero_point = (self.get_buffer(name) for name in ("integers", "scale", "zero_point"))
        return torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (integers, scale, zero_point),
            {"axis": 0},
            dtype=torch.float32,
            shape=integers.shape,
        )


class _Convolution(nn.Module):
    def __init__(self, layer: QuantizedConv2d, before: nn.Module) -> None:
        super().__init__()
        self.before, self.grid, self.layer = before, WeightGrid(layer), layer

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer._conv_forward(self.before(x), self.grid(), self.layer.bias)
        return output


class _Linear(nn.Module):
    def __init__(self, layer: QuantizedLinear, before: nn.Module) -> None:
        super().__init__()
        self.before, self.grid, self.layer = before, WeightGrid(layer), layer

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(self.before(x), self.grid(), self.layer.bias)


def has_qat_layers(module: nn.Module) -> bool:
    """Whether quantization-aware training left layers in `module`."""
    return any(isinstance(layer, QuantizedLayer) for layer in module.modules())


def use_onnx_operators(module: nn.Module) -> nn.Module:
    """`module` itself with its quantized layers replaced; afterwards it can only be exported to ONNX."""
    if isinstance(module, QuantizedConv2d | QuantizedLinear):
        return _onnx_layer(module, {})
    grids: dict[nn.Module, nn.Module] = {}
    for name, layer in list(module.named_modules()):
        if isinstance(layer, QuantizedConv2d | QuantizedLinear):
            module.set_submodule(name, _onnx_layer(layer, grids))
        for slot in QUANTIZER_SLOTS.get(type(layer), ()):
            quantizer = getattr(layer, slot)
            if isinstance(quantizer, ActivationQuantizer):
                setattr(layer, slot, _activation_grid(quantizer, grids))
    return module


def _activation_grid(quantizer: ActivationQuantizer | None, grids: dict[nn.Module, nn.Module]) -> nn.Module:
    """One grid per quantizer, however many layers share it."""
    if quantizer is None:
        return nn.Identity()
    return grids.setdefault(quantizer, ActivationGrid(quantizer))


def _onnx_layer(layer: QuantizedLayer, grids: dict[nn.Module, nn.Module]) -> nn.Module:
    before = _activation_grid(layer.input_quantizer, grids)
    return _Convolution(layer, before) if isinstance(layer, QuantizedConv2d) else _Linear(layer, before)
