"""Classic TensorRT: the plan is built on the device itself, at the first start, and cached on a volume.

The builder times kernels while it builds, so builds of one graph differ in speed: several are made and measured, and
the fastest is kept together with its timings, which speed up the build of the next release. A plan depends on version,
GPU and driver, so it is cached under a digest of these and of the graph. One process builds at a time; the others wait
for its plan. Knows nothing of running a plan.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from hashlib import sha256

from deploy.runtime.device.probe import gpu_and_driver
from deploy.runtime.engines.compile_cache import CompileCache
from deploy.runtime.engines.tensorrt_plan import TensorRtLibrary, TensorRtPlan, build_plan
from toolchain.errors import DeviceError
from toolchain.records.tensorrt_layers import PlanSpec, float_convolutions

BUILDS, BUILDS_VARIABLE = 3, "PLAN_BUILDS"
# the inspector's tensor types (IEngineInspector, TensorRT 10 and 11) -> the names in tensorrt_layers.py
DTYPE_NAMES = {
    "int8": "Int8",
    "bf16": "BFloat16",
    "bfloat16": "BFloat16",
    "fp16": "Half",
    "half": "Half",
    "fp32": "Float",
    "float": "Float",
}
MeasureMs = Callable[[bytes], float]  # of a plan: median milliseconds of one image on the GPU


def load_or_build_plan(
    library: TensorRtLibrary, onnx: bytes, order: PlanSpec, store: CompileCache, speed: MeasureMs
) -> bytes:
    """The plan of the graph `onnx` for this device: cached, or built now, which takes minutes. DeviceError."""
    device = (library.version, *gpu_and_driver())
    name = f"tensorrt-{_key(sha256(onnx).hexdigest(), order.batches, device)}"
    with store.exclusive(name):
        kept = store.read(f"{name}.plan")
        if kept is not None:
            return kept
        timings = f"tensorrt-{_key(device)}.timing"
        best = _build_fastest(library, onnx, order, store.read(timings) or b"", speed)
        store.write(timings, best.timing_cache)
        store.write(f"{name}.plan", best.content)
        return best.content


def _key(*facts: object) -> str:
    return sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _build_fastest(
    found: TensorRtLibrary, onnx: bytes, order: PlanSpec, timings: bytes, speed: MeasureMs
) -> TensorRtPlan:
    """The first build uses earlier timings; the others measure again, or they would all be identical."""
    count, plans = _build_count(), list[tuple[float, TensorRtPlan]]()
    for number in range(1, count + 1):
        _say(f"{order.precision}: building plan {number} of {count} for this GPU; it is cached for the next start")
        plan = build_plan(found, onnx, order.batches, (), timings if number == 1 else b"")
        plans.append((speed(plan.content), plan))
        _say(f"{order.precision}: plan {number} of {count}: {plans[-1][0]:.3f} ms, built in {plan.seconds:.0f} s")
    return min(plans, key=lambda pair: pair[0])[1]


def _build_count() -> int:
    text = os.environ.get(BUILDS_VARIABLE, "") or str(BUILDS)
    if not text.isdigit() or not int(text):
        raise DeviceError(f"{BUILDS_VARIABLE}={text} in the environment: expected how many plans to build, 1 or more")
    return int(text)


def _say(text: str) -> None:
    print(f"tensorrt: {text}", file=sys.stderr, flush=True)


def refuse_float_convolutions(inspected: str, order: PlanSpec) -> None:
    """DeviceError that names the convolutions which an int8 plan computes in float, by the inspector's JSON. Layers
    that the inspector does not describe are skipped: its output differs between versions."""
    count, told = float_convolutions(convolution_types(inspected, order.convolutions), order.in_float)
    if order.precision == "int8" and count:
        raise DeviceError(f"int8 was requested, but TensorRT computes {count} convolutions in float here: {told}")


def convolution_types(inspected: str, wanted: Mapping[str, int]) -> dict[str, str]:
    """The weight type of each of the `wanted` convolutions, where the inspector reports a layer with its node and as
    many weights."""
    found: dict[str, str] = {}
    for layer in json.loads(inspected).get("Layers", []):
        weights = layer.get("Weights") if isinstance(layer, dict) else None  # names only: built without details
        if not isinstance(weights, dict):
            continue
        kind = DTYPE_NAMES.get(str(weights.get("Type", "")).lower())
        nodes = [part.partition("]")[0] for part in str(layer.get("Metadata", "")).split("[ONNX Layer: ")[1:]]
        for node in nodes:
            if kind and node in wanted and weights.get("Count", 0) >= wanted[node]:
                found[node] = kind
    return found
