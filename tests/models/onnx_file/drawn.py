"""ONNX classifiers as exporters of several frameworks write them, drawn by hand: a convolution, a mean, a matrix."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from toolchain.models.onnx_file.interface import OnnxGraph, open_onnx
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing

HEIGHT, WIDTH, CLASSES = 8, 6, 5
SHAPE = Preprocessing(HEIGHT, WIDTH, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
GREY = Preprocessing(HEIGHT, WIDTH, 1)
IMAGES = np.random.default_rng(1).integers(0, 256, (7, HEIGHT, WIDTH, 3), np.uint8)
AXES = {"nchw": (3, HEIGHT, WIDTH), "nhwc": (HEIGHT, WIDTH, 3), "hw": (HEIGHT, WIDTH), "flat": (HEIGHT * WIDTH,)}


def draw(
    path: Path,
    layout: str = "nchw",
    dtype: int = TensorProto.FLOAT,
    batch: int | str = "n",
    axes: Sequence[int | str | None] | None = None,
    end: Sequence[tuple[str, dict[str, Any]]] = (),
    names: tuple[str, str] = ("in/put:0", "out/put:0"),
    opset: int = 17,
    ir: int = 8,
    more: Sequence[NodeProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] = (),
    classes: int = CLASSES,
) -> Path:
    """Write a classifier of images of HEIGHT x WIDTH. end: operations behind the matrix product, [name, attributes];
    more, outputs: further nodes, which may use `scores`, and the outputs that they make."""
    half = dtype == TensorProto.FLOAT16
    number = np.float16 if half else np.float32
    channels = 1 if layout in ("hw", "flat") else 3
    random = np.random.default_rng(0)
    kernel, matrix = random.normal(0, 0.5, (4, channels, 3, 3)), random.normal(0, 2, (4, classes))
    stored = [numpy_helper.from_array(kernel.astype(number), "k"), numpy_helper.from_array(matrix.astype(number), "w")]
    stored.append(numpy_helper.from_array(np.array([-1, 1, HEIGHT, WIDTH]), "square"))
    nodes = list(_to_nchw(names[0], layout, dtype))
    nodes += [
        helper.make_node("Conv", ["nchw", "k"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores" if end or more else names[1]]),
    ]
    current = "scores"
    for place, (kind, attributes) in enumerate(end):
        result = names[1] if place == len(end) - 1 else f"end{place}"
        inputs = [current, "four"] if kind == "Reshape" else [current]
        nodes.append(helper.make_node(kind, inputs, [result], **attributes))
        current = result
    stored += [numpy_helper.from_array(np.array([-1, classes, 1, 1]), "four")]
    last = [batch, classes, 1, 1] if end and end[-1][0] == "Reshape" else [batch, classes]
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    made = list(outputs) or [helper.make_tensor_value_info(names[1], kind, last)]
    given = [helper.make_tensor_value_info(names[0], dtype, [batch, *(axes or AXES[layout])])]
    if ir < 4:  # then weights were inputs too
        given += [helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in stored]
    graph = helper.make_graph([*nodes, *more], "drawn", given, made, stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir), path)
    return path


def opened(path: Path, shape: Preprocessing = SHAPE, **keys: Any) -> OnnxGraph:
    return open_onnx(path, ModelSpec(path.name, **keys), shape)


def _to_nchw(name: str, layout: str, dtype: int) -> list[NodeProto]:
    whole = dtype not in (TensorProto.FLOAT, TensorProto.FLOAT16)
    cast = [helper.make_node("Cast", [name], ["cast"], to=TensorProto.FLOAT)] if whole else []
    before = "cast" if whole else name
    if layout in ("hw", "flat"):
        return [*cast, helper.make_node("Reshape", [before, "square"], ["nchw"])]
    kind = ("Identity", {}) if layout == "nchw" else ("Transpose", {"perm": [0, 3, 1, 2]})
    return [*cast, helper.make_node(kind[0], [before], ["nchw"], **kind[1])]
