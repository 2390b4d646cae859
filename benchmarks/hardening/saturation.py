"""INT8 by PTQ and by QAT on CPUs with and without VNNI: is it as accurate, and are the saturating layers predicted?

    python -m benchmarks.hardening.saturation          # all 10,000 test images of CIFAR-10; QUICK=1: 3,000

Nets: ResNet-20 as committed, trained and quantization-aware, and EfficientNet-Lite0, a kin of MobileNet-v2, with its
ImageNet weights and a head for CIFAR-10 fitted here. On a CPU with VNNI, OpenVINO is held to AVX2 by oneDNN's switch,
in processes of their own. ONNX Runtime has no such switch: what it answers without VNNI is computed by mlas.py, where
saturation is possible at all. On a CPU without VNNI both engines run as they are, their rows with VNNI are not
measured, and mlas.py is held against ONNX Runtime. The full range is what was built before the repair. A layer "loses"
when it alone on integers, without VNNI, answers fewer images right than chance explains (McNemar).
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.hardening.mlas import saturating_logits
from benchmarks.hardening.saturation_nets import NETS, Net
from benchmarks.rows import Row, guarded_rows, print_rows, row
from deploy.runtime.device.probe import cpu_isa
from toolchain.backends import Calibration, backend
from toolchain.cli.console import log_to_stderr
from toolchain.job.latency import decisions_of
from toolchain.records.manifest import Candidate
from toolchain.records.saturation import Saturation, adds_at_16_bits

QUICK = bool(os.environ.get("QUICK"))
IMAGES = int(os.environ.get("IMAGES", "3000" if QUICK else "10000"))
LAYER_IMAGES = min(IMAGES, 1000)
CAP = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
LOST, CALIBRATED, PREDICTED = 0.3, 300, 16
FORMS = {"safe": {}, "full": {"full_range": True}}
STOPS_HERE = adds_at_16_bits(platform.machine(), cpu_isa())
CERTAIN = 2.0  # standard errors of a paired difference


class Form(NamedTuple):
    """An int8 artifact of a net. how: PTQ or QAT; form: a key of FORMS."""

    net: Net
    how: str
    form: str
    folder: Path
    candidate: Candidate
    predicted: Saturation

    @property
    def what(self) -> str:
        range_ = "" if self.form == "safe" else " (full range: without the repair)"
        return f"{self.net.name}, {self.how}, {self.candidate.backend}{range_}"


def rows() -> Iterator[Row]:
    """The rows of every net."""
    with tempfile.TemporaryDirectory(prefix="bench-saturation-") as folder:
        for make in NETS:
            yield from net_rows(make(Path(folder), IMAGES))


def net_rows(net: Net) -> Iterator[Row]:
    """Each artifact of the net on both kinds of CPU, and the layers of those that saturate."""
    candidate = backend("openvino").build(net.onnx, net.folder / "fp32", "fp32", None)
    fp32 = accuracy(net, answers(net, net.folder / "fp32", candidate))
    for one in forms(net):
        for cpu, share, how in measure_accuracies(one):
            lost = None if share is None else 100 * (fp32 - share)
            note = how if share is None else f"{100 * share:.2f} of {100 * fp32:.2f} %, {IMAGES:,} images, {how}"
            if one.form == "safe":
                yield row(f"{one.what}, {cpu}", lost, "<=", LOST, "points lost", note)
            else:
                yield Row(f"{one.what}, {cpu}", lost, "points lost, for comparison", lost is not None, note)
        if one.form == "full" and one.candidate.backend == "openvino":
            yield layers_row(one)
        elif not one.predicted.is_excluded and STOPS_HERE:
            yield computed_row(one)


def measure_accuracies(one: Form) -> Iterator[tuple[str, float | None, str]]:
    """CPU, accuracy there or None, and how it was found."""
    here = accuracy(one.net, answers(one.net, one.folder, one.candidate))
    if STOPS_HERE:
        yield "with VNNI", None, "this CPU has no VNNI"
        yield "without", here, "by this CPU"
    else:
        yield "with VNNI", here, "by this CPU"
        yield "without", *without_vnni(one)


def computed_row(one: Form) -> Row:
    """How far what mlas.py computes is from ONNX Runtime on this CPU, which has no VNNI."""
    computed = saturating_logits(one.folder / one.candidate.files[0], one.net.images).argmax(1)
    alike = float(np.mean(computed == answers(one.net, one.folder, one.candidate)))
    note = f"{100 * accuracy(one.net, computed):.2f} % right as computed"
    return Row(f"{one.what}: computed as this CPU answers", 100 * alike, "% of images, for comparison", True, note)


def forms(net: Net) -> Iterator[Form]:
    """PTQ and, where the net has it, QAT, for both engines, in both forms."""
    for target in ("openvino", "onnxruntime"):
        for how, onnx in (("PTQ", net.onnx), ("QAT", net.qat_onnx)):
            for form, options in FORMS.items():
                folder = net.folder / f"{target}-{how}-{form}"
                calibration = Calibration(net.calibration[:CALIBRATED]) if how == "PTQ" else None
                candidate = backend(target).build(onnx, folder, "int8", calibration, options=options)
                predicted = backend(target).predict_saturation(
                    onnx, folder, candidate, lambda: net.calibration[:PREDICTED]
                )
                assert predicted is not None
                yield Form(net, how, form, folder, candidate, predicted)


def without_vnni(one: Form) -> tuple[float, str]:
    """Accuracy on a CPU without VNNI, found on one with it, and how."""
    if one.candidate.backend == "openvino":
        return accuracy(one.net, answers(one.net, one.folder, one.candidate, capped=True)), "held to AVX2"
    if one.predicted.is_excluded:
        return accuracy(one.net, answers(one.net, one.folder, one.candidate)), "as with VNNI: no sum can saturate"
    logits = saturating_logits(one.folder / one.candidate.files[0], one.net.images)
    return accuracy(one.net, logits.argmax(1)), "by computing its saturating sums"


def layers_row(one: Form) -> Row:
    """Layers that lose images without VNNI, and were not predicted to saturate."""
    nodes = dict(layer_nodes(one))
    exact, *alone = answers(
        one.net, one.folder, one.candidate, capped=True, layers=("none", *nodes.values()), images=LAYER_IMAGES
    )
    predicted, losing = {layer.layer for layer in one.predicted.saturating}, []
    truth = one.net.labels[:LAYER_IMAGES]
    for name, found in zip(nodes, alone, strict=True):
        lost = int(np.sum((exact == truth) & (found != truth)))
        gained = int(np.sum((exact != truth) & (found == truth)))
        if lost - gained > max(CERTAIN * (lost + gained) ** 0.5, 1):
            losing.append((name, lost - gained))
    missed = [name for name, _ in losing if name not in predicted]
    shown = ", ".join(f"{name} {count}" for name, count in sorted(losing, key=lambda pair: -pair[1])[:4]) or "none"
    note = f"lose images of {LAYER_IMAGES:,}: {shown}; predicted: {one.predicted.describe()}"
    return row(f"{one.what}: layers that lose and were not predicted", len(missed), "<=", 0, "layers", note)


def layer_nodes(one: Form) -> list[tuple[str, str]]:
    """The int8 layers that could saturate at all: names as predicted, and their nodes'."""
    from toolchain.backends.openvino import read_artifact
    from toolchain.backends.openvino_graph import graph_from_onnx, layers
    from toolchain.backends.saturation.from_openvino import quantized_layers

    onnx = one.net.onnx if one.how == "PTQ" else one.net.qat_onnx
    names = {layer.node.get_friendly_name(): layer.name for layer in layers(graph_from_onnx(onnx))}
    found = quantized_layers(read_artifact(one.folder / one.candidate.files[0]), names)
    return [(layer.layer.name, layer.weighted.node.get_friendly_name()) for layer in found]


def accuracy(net: Net, found: NDArray[np.int64]) -> float:
    return float(np.mean(found == net.labels[: found.shape[-1]]))


def answers(
    net: Net,
    folder: Path,
    candidate: Candidate,
    capped: bool = False,
    layers: tuple[str, ...] = ("",),
    images: int = IMAGES,
) -> NDArray[np.int64]:
    """[layers, images]: top-1 of each test image by the engine, in a process of its own. layers: of each row only this
    node on integers; "": all of them."""
    job = Job(str(folder), candidate, layers, images, str(net.images_file), str(folder / "answers.npy"))
    command = [sys.executable, "-m", "benchmarks.hardening.saturation", msgspec.json.encode(job).decode()]
    environment = {**os.environ, **(CAP if capped else {})}
    subprocess.run(command, env=environment, check=True, stdout=sys.stderr)
    made: NDArray[np.int64] = np.load(job.out)
    return made


class Job(msgspec.Struct, frozen=True):
    """What answers() hands to its process."""

    folder: str
    candidate: Candidate
    layers: tuple[str, ...]
    images: int
    images_file: str
    out: str


def answer(job: Job) -> None:
    """In the process that may be held to AVX2."""
    from deploy.runtime.device.probe import default_threads
    from deploy.runtime.engines import Settings, open_engine

    settings = Settings(default_threads(), "throughput", saturating=True)
    images, rows = np.load(job.images_file, mmap_mode="r")[: job.images], []
    for layer in job.layers:
        candidate = one_layer(Path(job.folder), job.candidate, layer) if layer else job.candidate
        with open_engine(Path(job.folder), candidate, settings) as engine:
            rows.append(decisions_of(engine, images, layer or "all layers"))
    np.save(job.out, np.stack(rows))


def one_layer(folder: Path, candidate: Candidate, layer: str) -> Candidate:
    """The artifact with only the node `layer` on integers."""
    from toolchain.backends.openvino import read_artifact
    from toolchain.backends.openvino_graph import import_openvino
    from toolchain.backends.saturation.from_openvino import widen_weights

    graph = read_artifact(folder / candidate.files[0])
    widen_weights(graph, keep=layer)
    import_openvino().save_model(graph, folder / "one-layer.xml", compress_to_fp16=False)
    return msgspec.structs.replace(candidate, files=("one-layer.xml",))


if __name__ == "__main__":
    log_to_stderr()
    if len(sys.argv) > 1:
        answer(msgspec.json.decode(sys.argv[1], type=Job))
    else:
        print_rows(guarded_rows("saturation", rows))
