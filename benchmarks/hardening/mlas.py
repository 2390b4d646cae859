"""ONNX Runtime's int8 kernels without VNNI, computed: a QDQ graph whose sums of two products stop at 16 bits.

No switch keeps ONNX Runtime from VNNI, so on a CPU that has it the other arithmetic can only be computed. ONNX's own
reference evaluator runs the graph; convolutions and linear layers on integers are replaced by the saturating one. Tried
against ONNX Runtime itself on an emulated Haswell (docs/lab.md).
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from torch import Tensor

from toolchain.backends.saturation.arithmetic import HIGHEST, LOWEST, IntegerLayer, risky_pairs
from toolchain.backends.saturation.from_onnx import SIGNED_SHIFT, QuantizedNode, quantized_nodes

DOMAIN, BATCH = "edge.toolchain", 250
EVALUATED = 19  # the first opset whose QuantizeLinear the reference evaluator has; 18's is the same


def saturating_logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Logits [N, classes] of the QDQ graph in `path` for uint8 [N, H, W, C], as a CPU without VNNI computes them."""
    model = onnx.load(path)
    layers = _replace_layers(model)

    class SaturatingLayer(OpRun):
        op_domain = DOMAIN

        def _run(self, activations: Any, scale: Any, bias: Any = None, name: str = "") -> tuple[Any]:
            return (_outputs(layers[str(name)], activations, scale, bias),)

    evaluator = ReferenceEvaluator(model, new_ops=[SaturatingLayer])
    name = model.graph.input[0].name
    run: Any = evaluator.run
    return np.concatenate([run(None, {name: images[at : at + BATCH]})[0] for at in range(0, len(images), BATCH)])


def _replace_layers(model: Any) -> dict[str, IntegerLayer]:
    """Put a SaturatingLayer in the place of each integer layer of the graph; returns them by name."""
    constants = {str(tensor.name): numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    makers = {str(name): node for node in model.graph.node for name in node.output}
    layers: dict[str, IntegerLayer] = {}
    for one in quantized_nodes(model):
        scale = _scale(one, constants, makers)
        scale_name = f"{one.layer.name}.both_scales"
        model.graph.initializer.append(numpy_helper.from_array(scale, scale_name))
        inputs = [one.activations, scale_name, *one.node.input[2:3]]
        node = helper.make_node("SaturatingLayer", inputs, list(one.node.output), domain=DOMAIN)
        node.attribute.append(helper.make_attribute("name", one.layer.name))
        one.node.CopyFrom(node)
        layers[one.layer.name] = one.layer
    for opset in model.opset_import:
        opset.version = max(opset.version, EVALUATED) if opset.domain == "" else opset.version
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    return layers


def _scale(one: QuantizedNode, constants: dict[str, Any], makers: dict[str, Any]) -> NDArray[np.float32]:
    """[outputs] or [1]: the product of the activations' scale and the weights'."""
    left, right = (makers[name] for name in one.node.input[:2])
    scales: NDArray[np.float32] = (constants[left.input[1]] * constants[right.input[1]]).astype(np.float32).reshape(-1)
    return scales


def _outputs(layer: IntegerLayer, activations: Any, scale: Any, bias: Any) -> Any:
    unsigned = activations if activations.dtype == np.uint8 else (activations.astype(np.int16) + SIGNED_SHIFT)
    whole = torch.from_numpy(unsigned.astype(np.int32))
    flat = whole.ndim == 2
    sums = saturating_sums(layer, whole[:, :, None, None] if flat else whole)
    shape = (1, -1, 1, 1)
    made = sums.numpy().astype(np.float32) * scale.reshape(shape)
    made = made if bias is None else made + bias.reshape(shape)
    return made[:, :, 0, 0] if flat else made


def saturating_sums(layer: IntegerLayer, activations: Tensor) -> Tensor:
    """int32 [N, outputs, H, W] of int32 [N, inputs, H, W], 0..255: the exact sums less what saturation loses."""
    weights = torch.from_numpy(layer.weights.astype(np.float64))
    top, left, bottom, right = layer.pads
    padded = torch.nn.functional.pad(activations, (left, right, top, bottom), value=layer.zero_point)
    shifted = (padded - layer.zero_point).double()
    exact = torch.conv2d(shifted, weights, None, layer.strides, 0, layer.dilations, layer.groups).round().int()
    each, channels = layer.weights.shape[0] // layer.groups, layer.weights.shape[1]
    pairs = _pairs(layer)
    for output, place in zip(*np.nonzero(risky_pairs(pairs)), strict=True):
        products = torch.zeros((), dtype=torch.int32)
        for column in (2 * place, 2 * place + 1):
            tap, channel = divmod(int(column), channels)
            if weight := int(pairs[output, place, column % 2]):
                products = (
                    products
                    + _tap(layer, padded, tap, exact.shape[2:])[:, output // each * channels + channel] * weight
                )
        exact[:, output] -= products - products.clamp(LOWEST, HIGHEST)
    return exact


def _pairs(layer: IntegerLayer) -> NDArray[np.int32]:
    """[outputs, pairs, 2]: the weights that meet in one sum. MLAS takes the places of the kernel with their channels as
    one row, so an odd number of channels makes pairs across places."""
    outputs, channels, *_ = layer.weights.shape
    if channels == 1 and layer.groups > 1:
        return np.zeros((outputs, 0, 2), np.int32)
    row = layer.weights.astype(np.int32).transpose(0, 2, 3, 1).reshape(outputs, -1)
    return np.pad(row, ((0, 0), (0, row.shape[1] % 2))).reshape(outputs, -1, 2)


def _tap(layer: IntegerLayer, padded: Tensor, tap: int, size: Any) -> Tensor:
    """[N, inputs, H, W]: what one place of the kernel sees."""
    row, column = divmod(tap, layer.weights.shape[3])
    y, x = row * layer.dilations[0], column * layer.dilations[1]
    rows = slice(y, y + (size[0] - 1) * layer.strides[0] + 1, layer.strides[0])
    columns = slice(x, x + (size[1] - 1) * layer.strides[1] + 1, layer.strides[1])
    seen: Tensor = padded[:, :, rows, columns]
    return seen
