"""Weights that training left at 8 bits, requantized to -64..64, so that no sum of two products exceeds 16 bits.

A channel's scale grows so that its largest weight fits; channels that fit already keep every bit. It costs one bit:
ResNet-20 gets 91.05 % instead of 91.10 % of 10,000 images right (docs/decisions/0016).
"""

import logging
from typing import Any

import numpy as np

from toolchain.backends.saturation.arithmetic import SAFE_SUM, can_saturate
from toolchain.backends.saturation.from_onnx import quantized_nodes

logger = logging.getLogger(__name__)

LARGEST = SAFE_SUM // 2  # of each of two


def narrow_weights(model: Any) -> tuple[str, ...]:
    """Requantize, in place, the layers of an onnx.ModelProto that could saturate; returns their names."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    narrowed = []
    for one in quantized_nodes(model):
        if not can_saturate(one.layer):
            continue
        source = makers[one.node.input[1]]
        weights, scale = (numpy_helper.to_array(constants[name]) for name in source.input[:2])
        axis = next((attribute.i for attribute in source.attribute if attribute.name == "axis"), 1)
        fewer, wider = narrowed_grid(weights, scale, axis)
        for name, value in zip(source.input[:2], (fewer, wider), strict=True):
            constants[name].CopyFrom(numpy_helper.from_array(value, name))
        narrowed.append(one.layer.name)
    return tuple(narrowed)


def narrowed_grid(weights: Any, scale: Any, axis: int) -> tuple[Any, Any]:
    """Integers within -64..64 and their scale; axis: of the channels, where `scale` has more than one element."""
    others = tuple(at for at in range(weights.ndim) if at != axis % weights.ndim) if scale.size > 1 else None
    largest = np.abs(weights.astype(np.int32)).max(axis=others)
    factor = np.maximum(largest / LARGEST, 1.0)
    shape = [1] * weights.ndim
    if scale.size > 1:
        shape[axis] = -1
    fewer = np.rint(weights / factor.reshape(shape)).astype(np.int8)
    return fewer, (scale * factor.reshape(scale.shape)).astype(scale.dtype)


def log_narrowed(names: tuple[str, ...]) -> None:
    """Log which layers the artifact computes on another grid than they were trained on."""
    shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    logger.info(
        f"  int8: {len(names)} layers requantized from -127..127 to -64..64 ({shown}), which CPUs without VNNI compute "
        "exactly too"
    )
