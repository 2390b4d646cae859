"""Recipes without labelled data: what is built, what is refused, and that nobody claims an accuracy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.runtime.certification.certificate import run_certify
from tests.models.onnx_file.drawn import CLASSES, HEIGHT, WIDTH, draw
from toolchain.build.pipeline import build
from toolchain.cli.pages import built_page
from toolchain.errors import DataError, RecipeError
from toolchain.records.bundle import CERTIFY, Bundle
from toolchain.views.bundle import manifest_page
from toolchain.workflows.evaluate import evaluate_accuracy

RECIPE = f"""
name = "bare"
[model]
source = "net.onnx"
[input]
height = {HEIGHT}
width = {WIDTH}
mean = [0.5]
std = [0.25]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    draw(tmp_path / "net.onnx", "nhwc", end=[("Softmax", {"axis": 1})])
    return tmp_path


def recipe(folder: Path, more: str = "") -> Path:
    (folder / "bare.toml").write_text(RECIPE + more)
    return folder / "bare.toml"


def claims_no_accuracy(bundle: Bundle) -> None:
    """In the manifest, the tables and the certificate."""
    manifest = bundle.manifest
    assert (manifest.accuracy, manifest.certify_accuracy) == (None, None)
    assert not bundle.has_file(CERTIFY)
    assert manifest.choice.endswith("accuracy is not known")
    assert "accuracy threshold" not in manifest.choice + "".join(each.verdict for each in manifest.candidates)
    assert "not known: built without labelled images" in " ".join(manifest_page(manifest).split())
    assert "not known" in built_page(bundle, Path("report.html"))
    certificate = run_certify(bundle, 1, lambda _: None, seconds=0.1)
    assert certificate.passed
    assert certificate.accuracy is None
    assert "accuracy" not in [check.name for check in certificate.checks]


def test_without_data_float_precisions_are_built_and_only_numerics_are_compared(folder: Path) -> None:
    bundle = build(recipe(folder), "onnxruntime", None)
    manifest = bundle.manifest
    assert [candidate.precision for candidate in manifest.candidates] == ["fp32"]
    assert manifest.labels == tuple(f"class {number}" for number in range(CLASSES))
    assert (manifest.data.name, manifest.data.certify_part) == ("drawn images", "")
    assert [row.reference for row in manifest.parity][:2] == ["net.onnx fp32", "net.onnx fp32"]
    assert all(row.passed for row in manifest.parity)
    claims_no_accuracy(bundle)
    with pytest.raises(DataError, match=r"bare.toml: no \[data\], so there is nothing to evaluate on"):
        evaluate_accuracy(str(folder / "bare.toml"), None)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[[step]]\nquantize = {}\n", 'name a folder of them, without labels: [calibration] images = "FOLDER"'),
        ("[[step]]\nquantize = { max_drop = 0.3 }\n", "max_drop of quantize is measured on labelled images"),
        ("[calibration]\n", "[calibration] is empty; give images, a folder of them, or data, a data set"),
    ],
)
def test_what_needs_images_is_refused_with_the_key_that_names_some(folder: Path, more: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build(recipe(folder, more), "onnxruntime", None)
    assert words in str(caught.value)


def test_a_step_that_needs_labels_is_refused(folder: Path) -> None:
    text = RECIPE.replace("net.onnx", "net.py:build") + "[[step]]\nfinetune = {}\n"
    (folder / "bare.toml").write_text(text)
    with pytest.raises(RecipeError, match=r"step 1, finetune: needs labelled images, and the recipe has no \[data\]"):
        build(folder / "bare.toml", "onnxruntime", None)


def test_int8_is_calibrated_on_images_without_labels(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for number in range(40):
        pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    quantized = '[calibration]\nimages = "photos"\n[[step]]\nquantize = { samples = 30 }\n'
    bundle = build(recipe(folder, quantized), "onnxruntime", None)
    data = bundle.manifest.data
    assert [candidate.precision for candidate in bundle.manifest.candidates] == ["fp32", "int8"]
    assert (data.name, data.calibration_name, len(data.calibration_indices)) == ("images", "images", 30)
    claims_no_accuracy(bundle)
    with pytest.raises(RecipeError, match=r"\[data\] needs labels, and images has none; put it under \[calibration\]"):
        build(recipe(folder, '[data]\nname = "images"\npath = "photos"\n'), "onnxruntime", None)
