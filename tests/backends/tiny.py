"""A small real graph: uint8 NHWC images in, logits out; its weights tell bright from dark and red from blue."""

from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHAPE, CLASSES = (12, 20, 3), 4


def tiny_onnx(path: Path, channels: int = SHAPE[2], batch: int | str = "N", width: int = 8) -> Path:
    """conv 3x3 (`width`) - relu - conv 3x3 - relu - mean - linear, preprocessing folded in, random weights (seed 0)."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.4, shape).astype(np.float32), name)

    scale = numpy_helper.from_array(np.array(1 / 64, np.float32), "scale")
    middle = numpy_helper.from_array(np.array(2, np.float32), "middle")
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["nchw"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "middle"], ["centred"]),
        helper.make_node("Conv", ["centred", "w1"], ["c1"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, *SHAPE[:2], channels])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, CLASSES])],
        [
            scale,
            middle,
            weights("w1", width, channels, 3, 3),
            weights("w2", width, width, 3, 3),
            weights("w3", width, CLASSES),
            weights("b3", CLASSES),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def tiny_images(count: int, seed: int = 1) -> NDArray[np.uint8]:
    """Smooth random images, so that different ones get different predictions."""
    rng = np.random.default_rng(seed)
    tint = rng.integers(0, 200, (count, 1, 1, SHAPE[2]))
    return (tint + rng.integers(0, 56, (count, *SHAPE))).astype(np.uint8)
