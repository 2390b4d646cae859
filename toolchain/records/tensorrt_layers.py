"""What a TensorRT builder made of a graph, layer by layer (audit.json in a bundle), and what a device is to build.

Format history
1  first (0.3.0)
"""

from collections.abc import Collection, Mapping

import msgspec

from toolchain.errors import BackendError

FORMAT = 1
SHOWN = 5


class InspectedLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A layer of the engine. kind: TensorRT's word; onnx: the nodes that went into it; computes: type of its first
    input; writes: of its first output; weight_bytes: its constants; activation_bytes: what it writes for one picture.
    """

    name: str
    kind: str
    onnx: tuple[str, ...]
    computes: str
    writes: str
    weight_bytes: int
    activation_bytes: int


class LayerInspection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """source: "builder" (its log, ahead of time) or "device" (the inspector). convolutions: the type that each is
    computed in, by ONNX node; kernels: layers that the GPU runs."""

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
    """What a device needs to know to build a plan of the graph beside it. convolutions: how many weights each has, by
    node; in_float: those that the recipe leaves in float."""

    precision: str
    batches: tuple[int, ...]
    convolutions: dict[str, int]
    in_float: tuple[str, ...] = ()
    format: int = FORMAT


def float_convolutions(convolutions: Mapping[str, str], meant: Collection[str] = ()) -> tuple[int, str]:
    """How many of the convolutions (type by name) are not Int8 and not `meant` to be float, and the first of them."""
    left = [f"{name} ({kind})" for name, kind in convolutions.items() if kind != "Int8" and name not in meant]
    more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
    return len(left), ", ".join(left[:SHOWN]) + more


def require_int8_convolutions(audit: LayerInspection, meant: Collection[str] = ()) -> None:
    """BackendError that names the convolutions that an int8 engine computes in float and that are not `meant` to be."""
    count, told = float_convolutions(audit.convolutions, meant)
    if audit.precision == "int8" and count:
        raise BackendError(
            f"int8 was asked for and TensorRT computes {count} of {len(audit.convolutions)} convolutions in float: "
            f"{told}; its int8 needs 16 channels or more, in multiples of 8: prune to those, name the layers in "
            "quantize's `ignore`, or build fp16"
        )
