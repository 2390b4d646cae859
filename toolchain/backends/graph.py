"""What every back end checks in an ONNX file or a request before it starts."""

import re
from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from msgspec import convert

from toolchain.errors import BackendError
from toolchain.records.manifest import Precision
from toolchain.records.tensors import DType, TensorSpec

# what the exporter's wrapper, torch, qdq.py and ONNX Runtime's quantizer add to a module's name
EXPORTER_AFFIXES = re.compile(r"^module\.|\.(weight|weight_quantized|grid\.integers)$")


def graph_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and the outputs of an ONNX file; BackendError when it is not one."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise BackendError(f"{path}: not a readable ONNX file ({error}); export the model again") from error
    constants = {tensor.name for tensor in graph.initializer}
    return (
        tuple(_spec(value) for value in graph.input if value.name not in constants),
        tuple(_spec(value) for value in graph.output),
    )


def _spec(value: Any) -> TensorSpec:
    from onnx.helper import tensor_dtype_to_np_dtype

    tensor = value.type.tensor_type
    shape = tuple(axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim)
    dtype = convert(tensor_dtype_to_np_dtype(tensor.elem_type).name, DType)
    return TensorSpec(value.name, dtype, shape)


def refuse_other_precisions(
    name: str, precisions: tuple[Precision, ...], precision: str, reasons: Mapping[str, str]
) -> None:
    """BackendError that lists what the back end builds and, where known, why it cannot build `precision`."""
    if precision not in precisions:
        why = f" ({reasons[precision]})" if precision in reasons else ""
        raise BackendError(
            f"target '{name}' builds {', '.join(precisions)}, not {precision}{why}; change `precisions` under [build]"
        )


FULL_RANGE = "full_range"


def wants_full_range(name: str, options: Mapping[str, object]) -> bool:
    """[target.NAME] full_range: int8 weights use all 8 bits, which only CPUs with VNNI, AMX or ARM's cores compute
    rightly; BackendError for anything but true or false."""
    value = options.get(FULL_RANGE, False)
    if not isinstance(value, bool):
        raise BackendError(f"[target.{name}] {FULL_RANGE} = {value!r}: expected true or false")
    return value


def name_nodes(model: Any) -> Any:
    """`model` (an onnx.ModelProto) itself, every node named: exclusions, lint and layer inspection refer to names."""
    for place, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}.{place}"
    return model


def has_qdq(model: Any) -> bool:
    """Whether an onnx.ModelProto contains quantization (Q/DQ) from training."""
    return any(node.op_type == "DequantizeLinear" for node in model.graph.node)


def layer_names(model: Any, patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Nodes whose weights belong to a module that matches one of `patterns`; BackendError: a pattern without match."""
    weights = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    nodes = {
        EXPORTER_AFFIXES.sub("", name): node.name
        for node in model.graph.node
        for name in node.input[1:2]
        if weights.get(name, 0) > 1
    }
    check_patterns(patterns, list(nodes))
    return tuple(node for name, node in nodes.items() if any(fnmatchcase(name, pattern) for pattern in patterns))


def check_patterns(patterns: tuple[str, ...], names: list[str]) -> None:
    """BackendError for a pattern that matches none of the layers `names`, with the nearest names."""
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            near = get_close_matches(pattern, names, 3, cutoff=0.0)
            raise BackendError(f"ignore: no layer '{pattern}'; the nearest are: {', '.join(near) or 'none'}")
