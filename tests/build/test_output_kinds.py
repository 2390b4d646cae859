"""Nets with one logit and with labels that do not exclude each other, from drawn images to a bundle that answers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.runtime.device.probe import default_threads
from deploy.runtime.engines import Settings, serving_engine
from toolchain.build.pipeline import build
from toolchain.errors import AccuracyError
from toolchain.records.bundle import Bundle
from toolchain.records.output import OutputKind

NETS = """
import torch
from torch import nn

class Channels(nn.Module):
    def __init__(self, picks):
        super().__init__()
        self.picks = picks
        self.scale = nn.Conv2d(3, 3, 1)
        nn.init.zeros_(self.scale.bias)
        with torch.no_grad():
            self.scale.weight.copy_(torch.eye(3).view(3, 3, 1, 1))

    def forward(self, x):
        return 20 * (self.scale(x).mean((2, 3))[:, list(self.picks)] - 0.5)

def one(): return Channels((0,))
def wrong(): return Channels((0, 1))  # output 0 is red, but the first folder is green
def three(): return Channels((0, 1, 2))
"""
RECIPE = """
name = "{name}"
[model]
source = "nets.py:{name}"
{output}
[input]
height = 8
width = 8
[data]
{data}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place, random = tmp_path_factory.mktemp("kinds"), np.random.default_rng(0)
    (place / "nets.py").write_text(NETS)

    def draw(path: Path, bright: tuple[int, ...]) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(20, 80, (8, 8, 3))
        pixels[..., list(bright)] += 150
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        return str(path.relative_to(place))

    for part, count in (("train", 20), ("test", 20)):
        for number in range(count):
            draw(place / "two" / part / "a-green" / f"{number}.png", (1,))
            draw(place / "two" / part / "b-red" / f"{number}.png", (0,))
    rows = ["path,label,split"]
    for number in range(60):
        bright = tuple(at for at in range(3) if random.random() < 0.5)
        path = draw(place / "several" / f"{number}.png", bright)
        names = ";".join(("a-red", "b-green", "c-blue")[at] for at in bright)
        rows.append(f"{path},{names},{'train' if number < 30 else 'test'}")
    (place / "several.csv").write_text("\n".join(rows) + "\n")
    return place


def build_net(folder: Path, name: str, output: str, data: str, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(folder / "home"))
    recipe = folder / f"{name}.toml"
    recipe.write_text(RECIPE.format(name=name, output=output, data=data))
    return build(recipe, "onnxruntime", None)


TWO, SEVERAL = 'name = "folder"\npath = "two"', 'name = "csv"\npath = "several.csv"'


def test_one_logit_is_two_classes_from_recipe_to_answer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = build_net(folder, "one", 'output = "sigmoid"', TWO, monkeypatch)
    manifest = bundle.manifest
    assert (manifest.output, manifest.labels) == (OutputKind("sigmoid", False), ("a-green", "b-red"))
    assert manifest.outputs[0].shape == (None, 1)
    assert manifest.accuracy is not None
    assert (manifest.accuracy.fp32, manifest.accuracy.measure, manifest.certify_accuracy) == (1.0, "top-1", 1.0)
    red = np.zeros((1, 8, 8, 3), np.uint8)
    red[..., 0] = 255
    with serving_engine(bundle, Settings(default_threads()), manifest.chosen) as engine:
        scores = engine.infer({"image": red})["logits"]
    assert manifest.output.class_values(scores)[0, 1] > 0.99


def test_labels_that_do_not_exclude_each_other_are_graded_by_f1(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = build_net(folder, "three", "", SEVERAL, monkeypatch).manifest
    assert manifest.output == OutputKind("sigmoid", False)
    assert manifest.accuracy is not None
    assert (manifest.accuracy.fp32, manifest.accuracy.measure) == (1.0, "F1")
    assert manifest.accuracy.mean_average_precision == pytest.approx(1.0)
    assert manifest.certify_accuracy == 1.0


def test_outputs_in_another_order_than_the_folders_are_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(
        AccuracyError, match=r"top-1 0\.00% of 40 test images.*output 0 is b-red, 1 is a-green"
    ) as caught:
        build_net(folder, "wrong", "options = {}", TWO, monkeypatch)
    assert "min_accuracy = 0 under [build]" in str(caught.value)
    assert "\n" not in str(caught.value)
