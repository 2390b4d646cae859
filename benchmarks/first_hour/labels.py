"""Labels permuted in seeded ways: each must be mapped by name, or refused; none may give an image another's name.
Nor may a bundle that was built right and has its labels permuted since: its certificate must refuse it.

A third of the nets has its outputs in the order of the labels file, a third in that of the folders (then the file is
wrong), and a third of the files has other names than the folders. QUICK=1: an eighth of the ways.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from msgspec.structs import replace
from PIL import Image

from benchmarks.rows import Row, print_rows, row
from deploy.runtime.certification.names import check_names
from deploy.runtime.engines import Settings, serving_engine
from toolchain.build.pipeline import build
from toolchain.cli.console import log_to_stderr
from toolchain.errors import AccuracyError, RecipeError
from toolchain.paths import HOME
from toolchain.progress import quiet, track
from toolchain.records.bundle import Bundle
from toolchain.records.tensors import Array

QUICK = bool(os.environ.get("QUICK"))
WAYS = 6 if QUICK else 50
IMAGES, SIZE, NOISE = 40, 8, 12.0  # of a class; pixels a side; of a byte
KINDS = ("labels", "folders", "other names")
RIGHT = 0.9  # of the images must be named right, where nothing is refused
NET = """
import torch
from torch import nn


class Nearest(nn.Module):
    def __init__(self):
        super().__init__()
        colours = torch.tensor({colours})
        self.head = nn.Linear(3, len(colours))
        self.head.weight.data = 2 * colours
        self.head.bias.data = -(colours**2).sum(1)

    def forward(self, images):
        return self.head(images.mean((2, 3)))


def net():
    return Nearest()
"""
RECIPE = """
name = "permuted"
[model]
source = "net.py:net"
labels = "labels.txt"
[input]
height = {size}
width = {size}
[data]
name = "folder"
path = "images"
[build]
precisions = ["fp32"]
"""


def rows() -> list[Row]:
    outcomes = [_outcome(seed) for seed in track(range(WAYS), "permuted labels")]
    counted = ", ".join(f"{what} {outcomes.count(what)}" for what in sorted(set(outcomes)))
    good = sum(outcome in ("mapped", "refused") for outcome in outcomes)
    return [row(f"labels permuted in {WAYS} ways, mapped or refused", good, ">=", WAYS, "", counted)]


def _outcome(seed: int) -> str:
    """mapped or refused as that net and that file need it, else what went wrong."""
    kind = KINDS[seed % len(KINDS)]
    with TemporaryDirectory() as folder:
        os.environ[HOME] = str(Path(folder) / "home")
        classes, colours = _write_case(Path(folder), kind, np.random.default_rng(seed))
        try:
            with quiet("toolchain"):
                bundle = build(Path(folder) / "recipe.toml", "onnxruntime", None)
        except AccuracyError as error:
            return "refused" if kind == "folders" else f"refused although right: {error}"
        except RecipeError as error:
            return "refused" if kind == "other names" else f"refused although right: {error}"
        finally:
            del os.environ[HOME]
        if kind == "labels" and _share_named_right(bundle, classes, colours) >= RIGHT:
            return "mapped" if _refuses_permuted(bundle) else "permuted since, not refused"
        return f"another's name, {kind}"


def _write_case(folder: Path, kind: str, random: np.random.Generator) -> tuple[list[str], Array]:
    """Pictures of one colour a class, a net that knows the colours, and a file of labels in another order."""
    count = int(random.integers(3, 9))
    classes = [f"class {letter}" for letter in "abcdefgh"[:count]]
    colours = np.array([[number % 2, number // 2 % 2, number // 4] for number in range(count)]) * 160.0 + 40
    for name, colour in zip(classes, colours, strict=True):
        place = folder / "images" / name
        place.mkdir(parents=True)
        for number in range(IMAGES):
            pixels = colour + random.normal(0, NOISE, (SIZE, SIZE, 3))
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(place / f"{number}.png")
    order = random.permutation(count)
    while np.array_equal(order, np.arange(count)):
        order = random.permutation(count)
    labels = [classes[at] if kind != "other names" else f"Klasse {at}x" for at in order]
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    shown = colours if kind == "folders" else colours[order]
    (folder / "net.py").write_text(NET.format(colours=(shown / 255).tolist()))
    (folder / "recipe.toml").write_text(RECIPE.format(size=SIZE))
    return classes, colours


def _refuses_permuted(bundle: Bundle) -> bool:
    """Whether the certificate's check passes the bundle, and refuses it with its first label behind the others."""
    first, *others = bundle.manifest.labels
    permuted = Bundle(bundle.folder, replace(bundle.manifest, labels=(*others, first)), bundle.digest)
    with serving_engine(bundle, Settings(1)) as engine:
        checks = [check_names(each, engine) for each in (bundle, permuted)]
    return [check.passed for check in checks if check] == [True, False]


def _share_named_right(bundle: Bundle, classes: list[str], colours: Array) -> float:
    """By the engine and the names that the bundle serves, for an image of each class's colour."""
    images = np.broadcast_to(colours[:, None, None].astype(np.uint8), (len(colours), SIZE, SIZE, 3))
    with serving_engine(bundle, Settings(1)) as engine:
        scores = engine.infer({engine.inputs[0].name: np.ascontiguousarray(images)})[engine.outputs[0].name]
    named = [bundle.manifest.labels[at] for at in scores.argmax(1)]
    return float(np.mean([name == true for name, true in zip(named, classes, strict=True)]))


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
