"""`make bench-compress`: every compression technique held against its figure.

    make bench-compress            # trains everything: hours on two cores, much less on a GPU; interrupted, it goes on
    QUICK=1 make bench-compress    # the committed checkpoints instead of training, and what fits beside them

Each recipe's net is trained by `toolchain weights` (QUICK: taken from examples/cifar10/), then a recipe that starts
from that file is built, measured and, where speed counts, compared with the unpruned net in one run. Then the other
benchmarks of this folder: distillation kinds, zoo, resume, two processes, checkpoints.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.compression import checkpoints, ddp, resume, zoo
from benchmarks.compression.distillation import distillation
from benchmarks.compression.distillation_runs import Budget
from benchmarks.compression.zoo_net import NETS
from benchmarks.rows import Row, guarded_rows, print_rows, row
from toolchain.cli.console import log_to_stderr
from toolchain.compress import POST_EXPORT_STEPS
from toolchain.records.bundle import open_bundle
from toolchain.records.manifest import Manifest
from toolchain.records.weights import Weights, require_weights

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples" / "cifar10"
WORK = ROOT / "build" / "bench-compress"  # nets and recipes made here; what is there is not trained again
BASE = "cifar10-resnet20"
TOOLCHAIN = (sys.executable, "-m", "toolchain")
QUICK_NETS = ("squeezenet1_1", "resnet34")
MACS_TIMES_FEWER, OF_THE_RATIO = 2.1, 0.57  # Torch-Pruning's ResNet-50: 3.85 times fewer MACs give 2.19 times


@dataclass(frozen=True)
class Built:
    """A net started from its trained weights. budget: how it was trained, in words."""

    recipe: Path
    weights: Weights
    manifest: Manifest
    budget: str

    @property
    def points(self) -> float:
        """Top-1 of what serves, on all test images, in percent."""
        assert self.manifest.accuracy is not None
        return self.manifest.accuracy.chosen * 100


def run_json(*words: str) -> dict[str, Any]:
    """The JSON document that the command ends with; its progress goes to stderr. RuntimeError, with its last line, when
    it fails."""
    last = ""
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
        if process.wait():
            raise RuntimeError(last or f"{' '.join(words)}: exit status {process.returncode}")
        output.seek(0)
        document = json.loads(output.read().strip().rpartition("\n")[2])
    assert isinstance(document, dict)
    return document


def trained_weights(name: str, quick: bool) -> Path:
    """The net of recipes/NAME.toml as a file: the committed one, or trained here and now."""
    if quick:
        return EXAMPLES / f"{name.removeprefix('cifar10-')}.safetensors"
    path = WORK / f"{name}.safetensors"
    if not path.exists():
        run_json(*TOOLCHAIN, "weights", str(recipe_of(name)), f"--out={path}")
    return path


def recipe_of(name: str) -> Path:
    """recipes/NAME.toml; VGG-16's is VGG-11's with another net."""
    path = ROOT / "recipes" / f"{name}.toml"
    if path.exists():
        return path
    text = (ROOT / "recipes" / f"{name.replace('vgg16', 'vgg11')}.toml").read_text()
    recipe = WORK / f"{name}-trained.toml"
    recipe.parent.mkdir(parents=True, exist_ok=True)
    recipe.write_text(text.replace("vgg11", "vgg16").replace("../examples", str(EXAMPLES.parent)))
    return recipe


def build_from_weights(name: str, quick: bool) -> Built:
    """Build what starts from the trained net: only what the back end does after export is left of the steps."""
    path = trained_weights(name, quick)
    weights = require_weights(path)
    place = WORK / f"{name}.toml"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(recipe_from_weights(recipe_of(name).read_text(), path))
    result = run_json(*TOOLCHAIN, "build", str(place))
    return Built(place, weights, open_bundle(Path(result["bundle"])).manifest, budget_of(weights))


def recipe_from_weights(text: str, weights: Path) -> str:
    """The recipe in `text` with other weights, without the steps on torch, refusing nothing."""
    head, build = text.split("[build]")
    model, *steps = head.split("[[step]]\n")
    left = [step for step in steps if set(tomllib.loads(f"[[step]]\n{step}")["step"][0]) & set(POST_EXPORT_STEPS)]
    model = re.sub(r'(?m)^weights = ".*"', f'weights = "{weights}"', model)
    return "[[step]]\n".join((model, *left)) + "[build]" + build.replace("refuse = true", "refuse = false")


def budget_of(weights: Weights) -> str:
    """`distill 48 epochs`, as the file itself says."""
    budgets = [f"{step.step} {step.options['epochs']} epochs" for step in weights.steps if "epochs" in step.options]
    return f"{', '.join(budgets) or 'nothing trained'}; seed {weights.seed}"


def base() -> Manifest:
    result = run_json(*TOOLCHAIN, "build", f"recipes/{BASE}.toml")
    return open_bundle(Path(result["bundle"])).manifest


def quantized_rows(unpruned: Manifest, quick: bool) -> Iterator[Row]:
    """Post-training and quantization-aware, against fp32 torch."""
    assert unpruned.accuracy is not None
    fp32, chosen = unpruned.accuracy.fp32 * 100, unpruned.accuracy.chosen * 100
    note = f"{chosen:.2f} of {fp32:.2f} %"
    yield row("ResNet-20, INT8 after training", fp32 - chosen, "<=", 0.3, "points lost", note)
    for name, what, bound in (
        ("cifar10-resnet20-qat", "ResNet-20, quantization-aware INT8", 0.1),
        ("cifar10-resnet20-qat4", "ResNet-20, quantization-aware, 4-bit weights", 1.0),
    ):
        net = build_from_weights(name, quick)
        serving = net.manifest.serving
        note = f"{net.points:.2f} of {fp32:.2f} %; {serving.size_bytes / 1e3:.0f} kB {serving.storage}; {net.budget}"
        yield row(what, fp32 - net.points, "<=", bound, "points lost", note)


def pruned_rows(quick: bool) -> Iterator[Row]:
    """Fewer multiply-accumulates: what they cost in accuracy and give in time, in one run with the unpruned net."""
    net = build_from_weights("cifar10-resnet20-pruned", quick)
    compared = run_json(*TOOLCHAIN, "compare", f"recipes/{BASE}.toml", str(net.recipe))
    before, after = (recipe["steps"][0] for recipe in compared["recipes"])
    fewer, faster = before["macs"] / after["macs"], before["latency_ms"] / after["latency_ms"]
    lost = (before["accuracy"] - after["accuracy"]) * 100
    what = "ResNet-20, structured pruning"
    yield row(f"{what}: MACs", fewer, ">=", MACS_TIMES_FEWER, "times fewer", f"{after['macs'] / 1e6:.1f} M")
    yield row(f"{what}: accuracy", lost, "<=", 1.0, "points lost", f"{after['accuracy']:.2%}; {net.budget}")
    note = f"{faster:.2f} times faster on OpenVINO fp32, batch 1, for {fewer:.2f} times fewer MACs"
    yield row(f"{what}: speed-up by MACs ratio", faster / fewer, ">=", OF_THE_RATIO, "", note)


def small_rows(quick: bool) -> Iterator[Row]:
    net = build_from_weights("cifar10-resnet8", quick)
    accuracy = net.weights.accuracy
    note = f"{net.weights.parameters:,} parameters; served as {net.manifest.chosen}: {net.points:.2f} %; {net.budget}"
    yield row("ResNet-8 by distillation", accuracy and accuracy * 100, ">=", 87, "% top-1", note)


def packed_rows(quick: bool) -> Iterator[Row]:
    """Pruned, trained on 4-bit grids, packed: a VGG-11, or VGG-16 where a GPU trains it (Han et al. 2016: AlexNet and
    VGG-16)."""
    from torch import cuda

    net = "vgg16" if cuda.is_available() and not quick else "vgg11"
    whole = EXAMPLES / f"{net}.safetensors"
    if not whole.exists() and not quick:
        command = f"--net {net} --epochs 8 --small-epochs 3 --lr 0.1"
        trainer = (sys.executable, str(EXAMPLES / "train.py"), *command.split(), "--out", str(whole))
        subprocess.run(trainer, cwd=ROOT, stdout=sys.stderr, check=True)
    outcome = build_from_weights(f"cifar10-{net}-packed", quick)
    size = outcome.manifest.serving.size_bytes
    before_bytes, before = original_net(net)
    what = f"{net.upper()}, pruned, 4-bit, packed"
    note = f"{before_bytes / 1e6:.1f} MB -> {size / 1e6:.2f} MB, {outcome.manifest.serving.storage}"
    yield row(f"{what}: size", before_bytes / size, ">=", 30, "times smaller", note)
    lost = None if before is None else before * 100 - outcome.points
    told_so = "; the whole net (37 MB) is not committed: run without QUICK" if before is None else f" of {before:.2%}"
    yield row(f"{what}: accuracy", lost, "<=", 0.5, "points lost", f"{outcome.points:.2f} %{told_so}; {outcome.budget}")


def original_net(net: str) -> tuple[int, float | None]:
    """Bytes of a VGG's fp32 weights, and its accuracy where its file is there."""
    from toolchain.compress.metrics import weights_size_bytes
    from toolchain.models.cifar import cifar_network
    from toolchain.records.weights import read_metadata

    path = EXAMPLES / f"{net}.safetensors"
    known = float(read_metadata(path)["test_accuracy"]) if path.exists() else None
    return weights_size_bytes(cifar_network(net, 10)), known


def groups(quick: bool) -> Iterator[tuple[str, Callable[[], Iterable[Row]]]]:
    """What is measured, and how; QUICK leaves out what trains for long, and says so."""
    yield "quantized", lambda: quantized_rows(base(), quick)
    yield "pruned", lambda: pruned_rows(quick)
    yield "small", lambda: small_rows(quick)
    yield "packed", lambda: packed_rows(quick)
    yield "checkpoints", checkpoints.rows
    yield "resume", resume.rows
    yield "zoo", lambda: zoo.rows(QUICK_NETS if quick else tuple(NETS))
    if quick:
        print("QUICK: left out: distillation kinds, two processes, eight of the ten architectures", flush=True)
        return
    yield "two processes", lambda: [ddp.comparison_row()]
    yield "distillation", distillation_rows


def distillation_rows() -> list[Row]:
    """The kinds of distillation against each other; the table is printed."""
    rows, shown = distillation(Budget())
    print(shown, end="\n\n", flush=True)
    return rows


def main() -> None:
    log_to_stderr()
    import torch

    quick = bool(os.environ.get("QUICK"))
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    print(f"trained on: {device}; {'QUICK: committed checkpoints' if quick else 'everything is trained'}", flush=True)
    print_rows([row for what, make in groups(quick) for row in guarded_rows(what, make)])


if __name__ == "__main__":
    main()
