"""What a TensorRT builder made of a graph, layer by layer: audit.json in a bundle.

Format history
1  first (0.3.0)
"""

import msgspec

FORMAT = 1


class AuditLayer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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


class Audit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
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
    layers: tuple[AuditLayer, ...]
    format: int = FORMAT
