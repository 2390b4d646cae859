"""What every back end asks of an ONNX file or of a request before it starts."""

from pathlib import Path
from typing import Any

from msgspec import convert

from toolchain.errors import BackendError
from toolchain.records.manifest import Precision
from toolchain.records.tensors import DType, TensorSpec


def graph_specs(path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The inputs and the outputs of an ONNX file; BackendError when it is none."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except (OSError, DecodeError) as error:
        raise BackendError(f"{path}: not an ONNX file that can be read ({error}); export the model again") from error
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


def refuse_other_precisions(name: str, precisions: tuple[Precision, ...], precision: str) -> None:
    """BackendError that lists what the back end builds."""
    if precision not in precisions:
        raise BackendError(
            f"target '{name}' builds {', '.join(precisions)}; not {precision}; change `precisions` under [build]"
        )
