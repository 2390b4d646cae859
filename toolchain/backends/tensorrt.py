"""ONNX -> TensorRT, for NVIDIA GPUs: a plan built ahead of time for GPUs that this machine need not have (flavour rtx,
TensorRT for RTX), or the typed graph from which each device builds its own plan (flavour classic).

Knows nothing of recipes, bundles or servers. The typed graph is kept next to the files that ship: without such a GPU,
ONNX Runtime runs it instead (stand_in) on the whole test split before anything ships. Two builds of a plan differ in
their bytes; the graph behind them does not.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.device.cuda import Cuda
from deploy.runtime.engines.saturation import adds_at_16_bits_here
from deploy.runtime.engines.tensorrt_plan import PACKAGES, Flavour, build_plan, check_parser, load_library
from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import graph_specs, refuse_other_precisions
from toolchain.backends.rounding import Rounding
from toolchain.backends.tensorrt_layers import convolution_sizes, inspect_layers
from toolchain.backends.tensorrt_lint import check_graph
from toolchain.backends.tensorrt_onnx import emulate_bf16, typed_graph
from toolchain.errors import BackendError, DeviceError
from toolchain.installation import explain_missing
from toolchain.records.manifest import AS_WRITTEN, Candidate, Precision
from toolchain.records.saturation import Saturation
from toolchain.records.storage import encode_record, write_atomically
from toolchain.records.tensorrt_layers import PlanSpec, require_int8_convolutions

NAME = "tensorrt"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
NARROW = "TensorRT has no convolution with such weights; --target=openvino stores them"
REASONS: dict[str, str] = {
    "int8d": "TensorRT needs ranges at build time",
    **dict.fromkeys(("int8w", "int4w", "int2w", "int1w"), NARROW),
}
CONTROLS_ACCURACY = False
COMPUTES = True
FLAVOUR, BATCHES, CAPABILITIES = "flavour", "batches", "compute_capabilities"
OPTIONS = frozenset({FLAVOUR, BATCHES, CAPABILITIES})
DEFAULT_FLOATS: tuple[Precision, ...] = ("fp32", "fp16")
NEEDS_IMAGES: tuple[Precision, ...] = ("fp16", "bf16")  # nodes that would overflow stay in fp32
A6000 = (86,)
USUAL_BATCHES = (1, 8, 32)
NEEDED = ("tensorrt_rtx_bindings", "modelopt", "onnx_graphsurgeon")


def missing() -> str | None:
    return explain_missing(*NEEDED)


def check(onnx: Path, options: Mapping[str, Any] = {}) -> None:  # never changed
    """See Backend: the lint, and TensorRT's own parser in the flavour that builds here."""
    flavour, _, capabilities = _parse_options(options)
    graph, _ = typed_graph(onnx, "fp32", None)
    check_graph(graph, capabilities)
    if flavour == "rtx":
        try:
            check_parser(load_library("rtx"), bytes(graph.SerializeToString(deterministic=True)))
        except DeviceError as error:
            raise BackendError(str(error)) from error


def build(
    onnx: Path,
    folder: Path,
    precision: Precision,
    calibration: Calibration | None,
    rounding: Rounding | None = None,  # noqa: ARG001  # Backend's shape
    small: bool = False,  # noqa: ARG001
    options: Mapping[str, Any] = {},  # never changed
) -> Candidate:
    """Write model-<precision>.sm86.plan (the suffix names the GPUs) and audit-<precision>.json (rtx), or
    model-<precision>.onnx and order-<precision>.json, from which the device builds (classic), and the stand-in's graph.

    calibration: images, for fp16 and bf16 too, whose ranges show what would overflow. BackendError: nodes that TensorRT
    would refuse; int8 that would be computed in float.
    """
    refuse_other_precisions(NAME, PRECISIONS, precision, REASONS)
    graph_specs(onnx)
    flavour, batches, capabilities = _parse_options(options)
    graph, excluded = typed_graph(onnx, precision, calibration)
    check_graph(graph, capabilities)
    content = bytes(graph.SerializeToString(deterministic=True))
    folder.mkdir(parents=True, exist_ok=True)
    if flavour == "classic":
        spec = PlanSpec(precision, batches, convolution_sizes(graph), excluded)
        return _write_candidate(
            folder, graph, precision, {f"model-{precision}.onnx": content, f"order-{precision}.json": spec}
        )
    try:
        plan = build_plan(load_library("rtx"), content, batches, capabilities)
    except DeviceError as error:
        raise BackendError(f"{precision}: {error}") from error
    inspection = inspect_layers(
        plan.layers,
        convolution_sizes(graph),
        load_library("rtx").version,
        precision,
        capabilities,
        batches,
        len(plan.content),
    )
    require_int8_convolutions(inspection, excluded)
    return _write_candidate(
        folder,
        graph,
        precision,
        {plan_name(precision, capabilities): plan.content, f"audit-{precision}.json": inspection},
    )


def _write_candidate(folder: Path, graph: Any, precision: Precision, files: Mapping[str, Any]) -> Candidate:
    """Write the files that ship and the graph that stands in for them on this machine."""
    contents = {name: file if isinstance(file, bytes) else encode_record(file) for name, file in files.items()}
    for name, content in contents.items():
        write_atomically(folder / name, content)
    stand_in_graph = emulate_bf16(graph) if precision == "bf16" else graph
    write_atomically(folder / _stand_in_name(precision), bytes(stand_in_graph.SerializeToString(deterministic=True)))
    return Candidate(precision, NAME, tuple(contents), sum(map(len, contents.values())))


def predict_saturation(
    onnx: Path,  # noqa: ARG001  # Backend's shape
    folder: Path,  # noqa: ARG001
    candidate: Candidate,  # noqa: ARG001
    images: Callable[[], NDArray[np.uint8]],  # noqa: ARG001
) -> Saturation | None:
    """None: GPUs add products of 8-bit numbers at 32 bits."""
    return None


def stand_in(candidate: Candidate) -> Candidate | None:
    """The typed graph itself, run by ONNX Runtime, on a machine without a GPU that the candidate was built for."""
    if _runs_here(candidate):
        return None
    # where this CPU adds products at 16 bits, Q/DQ and a convolution must not be fused into integers: no GPU does that
    options = {AS_WRITTEN: 1.0} if candidate.precision == "int8" and adds_at_16_bits_here() else {}
    file = _stand_in_name(candidate.precision)
    return Candidate(candidate.precision, "onnxruntime", (file,), candidate.size_bytes, options=options)


def _runs_here(candidate: Candidate) -> bool:
    """Whether the candidate's GPU is in this machine; for a candidate without files: whether any plan could run."""
    capability, name = _capability(), next(iter(candidate.files), "")
    if name.endswith(".onnx"):
        return capability is not None and find_spec(PACKAGES["classic"]) is not None
    return capability in load_library("rtx").capabilities and (not name or f"sm{capability}" in name.split("."))


def plan_name(precision: str, capabilities: Sequence[int]) -> str:
    """A file name that contains the GPUs of the plan: model-fp16.sm86.plan."""
    return ".".join((f"model-{precision}", *(f"sm{capability}" for capability in capabilities), "plan"))


def _capability() -> int | None:
    """The compute capability of this machine's GPU; None without one."""
    try:
        cuda = Cuda()
        cuda.check_device()
        return cuda.capability
    except DeviceError:
        return None


def _stand_in_name(precision: str) -> str:
    return f"standin-{precision}.onnx"


def _parse_options(options: Mapping[str, Any]) -> tuple[Flavour, tuple[int, ...], tuple[int, ...]]:
    """Flavour, batch sizes and compute capabilities, checked; BackendError."""
    flavour = options.get(FLAVOUR, "rtx")
    if flavour not in get_args(Flavour):
        raise BackendError(f"[target.tensorrt] flavour = {flavour!r}: expected rtx or classic")
    batches = _whole_numbers(options.get(BATCHES, USUAL_BATCHES), BATCHES)
    capabilities = _whole_numbers(options.get(CAPABILITIES, A6000), CAPABILITIES)
    return flavour, batches, capabilities


def _whole_numbers(values: Sequence[float], name: str) -> tuple[int, ...]:
    numbers = tuple(sorted({int(value) for value in values if value == int(value) and value >= 1}))
    if not numbers or len(numbers) != len(values):
        shown = ", ".join(f"{value:g}" for value in values)
        raise BackendError(f"[target.tensorrt] {name} = [{shown}]: expected different whole numbers of at least 1")
    return numbers
