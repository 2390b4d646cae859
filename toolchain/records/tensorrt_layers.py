"""The layers that TensorRT built from a graph (audit-*.json in a bundle), and what a device needs to build a plan.

Format history
1  first (0.3.0)
"""

from collections.abc import Collection, Mapping

import msgspec

from toolchain.errors import BackendError

FORMAT = 1
SHOWN = 5


class InspectedLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer of the engine. kind: TensorRT's name for it; onnx: the nodes fused into it; computes: type of its first
    input; writes: type of its first output; weight_bytes: of its constants; activation_bytes: of its output for one
    image."""

    name: str
    kind: str
    onnx: tuple[str, ...]
    computes: str
    writes: str
    weight_bytes: int
    activation_bytes: int


class LayerInspection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """source: "builder" (from its log, ahead of time) or "device" (from TensorRT's inspector). convolutions: the type
    that each is computed in, by ONNX node; kernels: the number of layers that the GPU runs."""

    engine: str
    precision: str
    capabilities: tuple[int, ...]
    batches: tuple[int, ...]
    source: str
    convolutions: dict[str, str]
    kernels: int
    plan_bytes: int
    layers: tuple[InspectedLayer, ...]
    format: int = FORMAT


class PlanSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device needs to build a plan from the graph next to it. convolutions: the number of weights of each, by
    node; in_float: those that the recipe keeps in float."""

    precision: str
    batches: tuple[int, ...]
    convolutions: dict[str, int]
    in_float: tuple[str, ...] = ()
    format: int = FORMAT


def float_convolutions(convolutions: Mapping[str, str], intended: Collection[str] = ()) -> tuple[int, str]:
    """The number of convolutions (type by name) that are neither Int8 nor `intended` to be float, and the first few."""
    floats = [f"{name} ({kind})" for name, kind in convolutions.items() if kind != "Int8" and name not in intended]
    more = f" and {len(floats) - SHOWN} more" if len(floats) > SHOWN else ""
    return len(floats), ", ".join(floats[:SHOWN]) + more


def require_int8_convolutions(inspection: LayerInspection, intended: Collection[str] = ()) -> None:
    """BackendError that names the convolutions of an int8 engine that run in float and are not `intended` to."""
    count, names = float_convolutions(inspection.convolutions, intended)
    if inspection.precision == "int8" and count:
        raise BackendError(
            f"int8 was requested, but TensorRT computes {count} of {len(inspection.convolutions)} convolutions in "
            f"float: {names}; its int8 needs at least 16 channels, in multiples of 8: prune to such widths, list the "
            "layers in quantize's `ignore`, or build fp16"
        )
