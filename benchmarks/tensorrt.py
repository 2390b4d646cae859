"""`make bench-tensorrt`: the requirements of target tensorrt without a GPU; rows that need one are printed as not run.

ResNet-50 and MobileNet-v2 have random weights, since only their structure counts. Accuracy is the trained example's.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import torch
import torchvision

from benchmarks import logger
from benchmarks.gate import run_toolchain
from benchmarks.rows import Row, guarded_rows, print_rows, row
from benchmarks.tensorrt_build import PlanBuild
from deploy.runtime.device.cuda import Cuda
from toolchain.backends.calibration import Calibration
from toolchain.backends.tensorrt import A6000, USUAL_BATCHES
from toolchain.backends.tensorrt_layers import convolution_sizes, count_types, inspect_layers
from toolchain.backends.tensorrt_onnx import typed_graph
from toolchain.cli.console import log_to_stderr
from toolchain.errors import DeviceError
from toolchain.export import onnx_from_torch
from toolchain.records.manifest import Precision
from toolchain.records.tensorrt_layers import LayerInspection
from toolchain.records.tensors import Preprocessing

ROOT = Path(__file__).parent.parent
RECIPE = "recipes/cifar10-resnet20.toml"
SHAPE = Preprocessing(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
IMAGES = 16
CONFORMANCE = "tests/deploy/runtime/engines/test_tensorrt_api.py"


def export(name: str, folder: Path) -> Path:
    torch.manual_seed(0)
    module = getattr(torchvision.models, name)(weights=None).eval()
    return onnx_from_torch(module, SHAPE, folder / f"{name}.onnx")


def build_plan(graph: Path, precision: Precision) -> tuple[PlanBuild, LayerInspection]:
    """Build a plan as the back end does, with the builder in its own process."""
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, SHAPE.height, SHAPE.width, 3), np.uint8)
    model, _ = typed_graph(graph, precision, Calibration(images))
    path = graph.with_name(f"{graph.stem}-{precision}.onnx")
    onnx.save(model, path)
    command = [sys.executable, "-m", "benchmarks.tensorrt_build", str(path)]
    printed = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout
    plan = msgspec.json.decode(printed.strip().rpartition("\n")[2], type=PlanBuild)
    convolutions = convolution_sizes(model)
    audit = inspect_layers(plan.layers, convolutions, plan.engine, precision, A6000, USUAL_BATCHES, plan.plan_bytes)
    return plan, audit


def build_rows(folder: Path) -> Iterator[Row]:
    """Speed and memory of the builder, and the types that it computes int8 models in."""
    wanted: dict[str, tuple[Precision, ...]] = {"resnet50": ("fp16", "int8"), "mobilenet_v2": ("int8",)}
    for name, precisions in wanted.items():
        graph = export(name, folder)
        for precision in precisions:
            logger.info(f"bench: {name}, {precision}")
            plan, audit = build_plan(graph, precision)
            sizes = f"plan {plan.plan_bytes / 1e6:.1f} MB, {audit.kernels} kernels"
            note = f"{plan.engine}, SM86, batches 1 to 32; {sizes}"
            if name == "resnet50":
                yield row(f"{name} {precision}: build", plan.seconds, "<", 10, "s", note)
                yield row(f"{name} {precision}: peak memory", plan.peak_bytes / 1e9, "<", 2, "GB")
            if precision == "int8":
                kinds = count_types(audit)
                left = sum(count for kind, count in kinds.items() if kind != "Int8")
                layers = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
                yield row(f"{name} int8: convolutions that are not Int8", left, "<=", 0, "", f"{layers}; {note}")


def example_rows() -> Iterator[Row]:
    """The trained example end to end: the accuracy of the ONNX graph that is built, and the image's size."""
    bundle = run_toolchain("build", RECIPE, "--target=tensorrt")
    manifest: dict[str, Any] = run_toolchain("show", bundle["bundle"])
    accuracy, candidates = (
        manifest["accuracy"],
        {candidate["precision"]: candidate for candidate in manifest["candidates"]},
    )
    int8 = candidates["int8"]["accuracy"]
    note = f"int8 {int8:.2%}, torch fp32 {accuracy['fp32']:.2%} of {accuracy['images']}, by ONNX Runtime"
    yield row("CIFAR-10 ResNet-20 int8, symmetric", 100 * (accuracy["fp32"] - int8), "<=", 0.3, "points lost", note)
    image = run_toolchain("image", bundle["bundle"])
    yield row("GPU image, unpacked", image["size_bytes"] / 1e6, "<", 650, "MB", image["tag"])


def conformance_row() -> Row:
    """Every TensorRT name that the code uses, looked up in the bindings of both flavours."""
    command = [sys.executable, "-m", "pytest", "-q", CONFORMANCE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    summary = done.stdout.strip().rpartition("\n")[2]
    what = "TensorRT names that its bindings lack: failing tests"
    return row(what, float(done.returncode != 0), "<=", 0, "", summary)


def gpu_row() -> Row:
    """A row that `make test-gpu` measures; this one only reports whether it could run here."""
    what, bound = "server over bare engine, batch 1, p50", "< 0.3 ms"
    try:
        Cuda().check_device()
    except DeviceError as error:
        return Row(what, None, bound, False, f"NOT RUN: {str(error).partition(':')[0]}")
    return Row(what, None, bound, False, "not run here: make test-gpu measures it on this GPU")


def main() -> None:
    log_to_stderr()
    with tempfile.TemporaryDirectory(prefix="bench-tensorrt-") as folder:
        groups = {
            "builds": lambda: build_rows(Path(folder)),
            "examples": example_rows,
            "conformance": lambda: [conformance_row()],
            "a GPU": lambda: [gpu_row()],
        }
        print_rows([row for what, make in groups.items() for row in guarded_rows(what, make)])


if __name__ == "__main__":
    main()
