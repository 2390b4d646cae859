"""ONNX -> TensorRT, for NVIDIA GPUs: a plan built here for GPUs that need not be here (flavour rtx, TensorRT for RTX),
or the typed graph, of which each device builds its own plan (flavour classic).

Knows nothing of recipes, bundles or servers. The graph that is built is kept beside what ships: where there is no such
GPU, ONNX Runtime answers for it (stand_in), on the whole test part, before anything ships. A plan is not the same bytes
twice; the graph that it is made of is.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from deploy.runtime.device.cuda import Cuda
from deploy.runtime.engines.tensorrt_plan import PACKAGES, Flavour, built, library
from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import graph_specs, missing_packages, refuse_other_precisions
from toolchain.backends.rounding import Rounding
from toolchain.backends.tensorrt_layers import convolution_sizes, inspect_layers
from toolchain.backends.tensorrt_lint import check_graph
from toolchain.backends.tensorrt_onnx import emulate_bf16, typed_graph
from toolchain.errors import BackendError, DeviceError
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.storage import encode_record, write_atomically
from toolchain.records.tensorrt_layers import PlanSpec, require_int8_convolutions

NAME = "tensorrt"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
NARROW = "TensorRT has no convolution with such weights; --target=openvino stores them"
REASONS: dict[str, str] = {
    "int8d": "TensorRT's ranges are known beforehand",
    **dict.fromkeys(("int8w", "int4w", "int2w", "int1w"), NARROW),
}
CONTROLS_ACCURACY = False
COMPUTES = True
FLAVOUR, BATCHES, CAPABILITIES = "flavour", "batches", "compute_capabilities"
OPTIONS = frozenset({FLAVOUR, BATCHES, CAPABILITIES})
DEFAULT_FLOATS: tuple[Precision, ...] = ("fp32", "fp16")
NEEDS_IMAGES: tuple[Precision, ...] = ("fp16", "bf16")  # what they would overflow with stays in fp32
A6000 = (86,)
USUAL_BATCHES = (1, 8, 32)
NEEDED = ("tensorrt_rtx_bindings", "modelopt", "onnx_graphsurgeon")


def missing() -> str | None:
    return missing_packages(*NEEDED)


def build(
    onnx: Path,
    folder: Path,
    precision: Precision,
    calibration: Calibration | None,
    rounding: Rounding | None = None,  # noqa: ARG001  # Backend's shape
    small: bool = False,  # noqa: ARG001
    options: Mapping[str, Any] = {},  # never changed
) -> Candidate:
    """Write model-<precision>.sm86.plan (or for which GPUs it is) and audit-<precision>.json (rtx), or
    model-<precision>.onnx and order-<precision>.json, of which the device builds (classic); and what stands in for it.

    calibration: pictures, for fp16 and bf16 too, whose ranges tell what would overflow. BackendError: what TensorRT
    would not take, by node; int8 that would be computed in float.
    """
    refuse_other_precisions(NAME, PRECISIONS, precision, REASONS)
    graph_specs(onnx)
    flavour, batches, capabilities = _parse_options(options)
    graph, left_out = typed_graph(onnx, precision, calibration)
    check_graph(graph, capabilities)
    content = bytes(graph.SerializeToString(deterministic=True))
    folder.mkdir(parents=True, exist_ok=True)
    if flavour == "classic":
        order = PlanSpec(precision, batches, convolution_sizes(graph), left_out)
        return _write_candidate(
            folder, graph, precision, {f"model-{precision}.onnx": content, f"order-{precision}.json": order}
        )
    try:
        plan = built(library("rtx"), content, batches, capabilities)
    except DeviceError as error:
        raise BackendError(f"{precision}: {error}") from error
    audit = inspect_layers(
        plan.layers,
        convolution_sizes(graph),
        library("rtx").version,
        precision,
        capabilities,
        batches,
        len(plan.content),
    )
    require_int8_convolutions(audit, left_out)
    return _write_candidate(
        folder, graph, precision, {plan_name(precision, capabilities): plan.content, f"audit-{precision}.json": audit}
    )


def _write_candidate(folder: Path, graph: Any, precision: Precision, files: Mapping[str, Any]) -> Candidate:
    """What ships, and beside it what stands in for it here."""
    contents = {name: part if isinstance(part, bytes) else encode_record(part) for name, part in files.items()}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    shown = emulate_bf16(graph) if precision == "bf16" else graph
    write_atomically(folder / _stand_in_name(precision), bytes(shown.SerializeToString(deterministic=True)))
    return Candidate(precision, NAME, tuple(contents), sum(map(len, contents.values())))


def stand_in(candidate: Candidate) -> Candidate | None:
    """Where there is no GPU that it is for: the very graph that was built, by ONNX Runtime."""
    if _runs_here(candidate):
        return None
    return Candidate(candidate.precision, "onnxruntime", (_stand_in_name(candidate.precision),), candidate.size_bytes)


def _runs_here(candidate: Candidate) -> bool:
    """Without files: whether any plan could."""
    capability, name = _capability(), next(iter(candidate.files), "")
    if name.endswith(".onnx"):
        return capability is not None and find_spec(PACKAGES["classic"]) is not None
    return capability in library("rtx").capabilities and (not name or f"sm{capability}" in name.split("."))


def plan_name(precision: str, capabilities: Sequence[int]) -> str:
    """It tells for which GPUs the plan is: model-fp16.sm86.plan."""
    return ".".join((f"model-{precision}", *(f"sm{one}" for one in capabilities), "plan"))


def _capability() -> int | None:
    """Of the GPU here; None without one."""
    try:
        cuda = Cuda()
        cuda.check()
        return cuda.capability
    except DeviceError:
        return None


def _stand_in_name(precision: str) -> str:
    return f"standin-{precision}.onnx"


def _parse_options(options: Mapping[str, Any]) -> tuple[Flavour, tuple[int, ...], tuple[int, ...]]:
    """The options, checked; BackendError."""
    flavour = options.get(FLAVOUR, "rtx")
    if flavour not in get_args(Flavour):
        raise BackendError(f"[target.tensorrt] flavour = {flavour!r}: expected rtx or classic")
    batches = _whole_numbers(options.get(BATCHES, USUAL_BATCHES), BATCHES)
    capabilities = _whole_numbers(options.get(CAPABILITIES, A6000), CAPABILITIES)
    return flavour, batches, capabilities


def _whole_numbers(given: Sequence[float], name: str) -> tuple[int, ...]:
    found = tuple(sorted({int(one) for one in given if one == int(one) and one >= 1}))
    if not found or len(found) != len(given):
        shown = ", ".join(f"{one:g}" for one in given)
        raise BackendError(f"[target.tensorrt] {name} = [{shown}]: expected different whole numbers from 1")
    return found
