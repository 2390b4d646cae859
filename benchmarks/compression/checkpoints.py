"""Evaluates every trained checkpoint in examples/: does it still have the accuracy that its file claims?

Files of `toolchain weights` hold all that is needed; those of examples/cifar10/train.py name network and accuracy.
Others (own networks on generated images) are skipped. Quantization-aware models are evaluated in torch and as OpenVINO
INT8, which computes what they learned; the recorded figure is torch's.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from torch import nn

from benchmarks.rows import Row, guarded_rows, print_rows
from deploy.runtime.device.probe import default_threads
from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import backend
from toolchain.cli.console import log_to_stderr
from toolchain.compress.metrics import accuracy
from toolchain.compress.quantization.restore import learned_quantization, rebuild_qat_layers
from toolchain.data import Split, load
from toolchain.export import onnx_from_torch
from toolchain.job.latency import decisions_of
from toolchain.models import load_model
from toolchain.models.cifar import NETWORKS
from toolchain.recipe import DataSpec, ModelSpec
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import read_metadata, read_weights

ROOT = Path(__file__).parents[2]
CIFAR = Preprocessing(32, 32, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
TOLERANCE = 0.05  # points: 5 of 10,000 images, for another CPU's rounding
LEARNED_TOLERANCE = 0.3  # points between a quantization-aware model in torch and an engine's integers


class Claim(msgspec.Struct, frozen=True):
    """What a checkpoint file claims. accuracy: a share 0..1."""

    spec: ModelSpec
    base: Path
    data: str
    input: Preprocessing
    accuracy: float


def claim_of(path: Path) -> Claim | None:
    """The claim of a file; None if it claims no accuracy on a public data set."""
    record, metadata = read_weights(path), read_metadata(path)
    if record is not None and record.accuracy is not None and record.data != "folder":
        spec = ModelSpec(record.source, str(path), None, record.options)
        return Claim(spec, path.parent, record.data, record.input, record.accuracy)
    net = metadata.get("net", path.stem)  # the oldest file is named after its network only
    if net in NETWORKS and "test_accuracy" in metadata:
        spec = ModelSpec(f"cifar:{net}", str(path))
        return Claim(spec, path.parent, "cifar10", CIFAR, float(metadata["test_accuracy"]))
    return None


def rows_of(path: Path) -> Iterator[Row]:
    """A row for the checkpoint in torch, and one for the engine if it is quantization-aware."""
    claim = claim_of(path)
    if claim is None:
        print(f"{path.relative_to(ROOT)}: claims no accuracy on public data; skipped", file=sys.stderr)
        return
    data = load(DataSpec(claim.data), claim.input, claim.base)
    loaded = load_model(claim.spec, claim.input, len(data.classes), claim.base, rebuild=rebuild_qat_layers)
    module, test = loaded.require_module(), data.split("test")
    name = path.name.removesuffix(".safetensors")
    measured = accuracy(module, test, claim.input, name)
    yield _row(f"{name}, torch fp32", measured, claim.accuracy, TOLERANCE, len(test))
    learned = learned_quantization(loaded.weights_record)
    if learned is not None and learned.activation_bits is not None:
        measured = by_engine(module, claim.input, test)
        yield _row(f"{name}, OpenVINO int8", measured, claim.accuracy, LEARNED_TOLERANCE, len(test))


def _row(what: str, measured: float, claimed: float, tolerance: float, images: int) -> Row:
    off = round(100 * abs(measured - claimed), 6)
    note = f"{measured:.2%} of {images:,} test images, the file says {claimed:.2%}"
    return Row(what, off, f"<= {tolerance:g} points off", off <= tolerance, note)


def by_engine(module: nn.Module, shape: Preprocessing, test: Split) -> float:
    """Top-1 of the OpenVINO artifact with the integers that training learned."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        onnx_from_torch(module, shape, folder / "model.onnx")
        candidate = backend("openvino").build(folder / "model.onnx", folder, "int8", None)
        with open_engine(folder, candidate, Settings(default_threads(), "throughput")) as engine:
            return float((decisions_of(engine, test.images, "int8 openvino, test") == test.labels).mean())


def rows() -> list[Row]:
    """Every checkpoint of examples/."""
    return [row for path in sorted((ROOT / "examples").rglob("*.safetensors")) for row in rows_of(path)]


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("checkpoints", rows))
