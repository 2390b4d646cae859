"""What bad input gets: one line with place, found, expected and next step; nothing half-written."""

import os
import pickle
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.export.nets import Small
from tests.journeys.conftest import Toolchain
from tests.journeys.own import changed
from tests.journeys.said import half_written
from tests.pictures import write_pictures

pytestmark = pytest.mark.slow
NETS = Path(__file__).parents[1] / "export" / "nets.py"
RECIPE = f"""
name = "small"
[model]
source = "{NETS}:Small"
[input]
height = 8
width = 8
[data]
name = "folder"
path = "pictures"
[build]
precisions = ["fp32"]
"""
QUANTIZED = ("[build]", "[[step]]\nquantize = { samples = 20 }\n[build]")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """Random weights and random pictures, four classes of ten: everything works."""
    write_pictures(tmp_path, 8)
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path / "small.toml"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[build]", "[build]\nmax_loss = 1"), "[build]: no key `max_loss`; did you mean max_accuracy_loss? It has: "),
        (("height = 8", 'height = "8"'), "input.height: expected `int`, got `str`"),
        (("width = 8", ""), "[input] needs `width`; add it, or your training's own transform = "),
        (
            ("[build]", "[[step]]\nprune_channel = {}\n[build]"),
            "step 1: no step 'prune_channel'; did you mean prune_channels?",
        ),
        (
            ("[build]", "[[step]]\nfinetune = { epochs = 1.5 }\n[build]"),
            "step 1, finetune, epochs: expected `int`, got `float`",
        ),
        (
            ("[build]", "[[step]]\nquantize = {}\n[[step]]\nfinetune = {}\n[build]"),
            "step 2, finetune: comes after quantize (step 1), whose result it would undo; move quantize to the end",
        ),
        (
            ('["fp32"]', '["bf16"]'),
            "build.precisions: onnxruntime has no bf16 (ONNX Runtime's CPU kernels have no bf16)",
        ),
        (('["fp32"]', '["int4"]'), "build.precisions[0]: invalid enum value 'int4'"),
        (("precisions =", "precisions ="), None),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused_before_anything_is_made(
    recipe: Path, home: Path, toolchain: Toolchain, change: tuple[str, str], words: str | None
) -> None:
    said = toolchain("build", changed(recipe, change), "--target=onnxruntime")
    if words is None:  # the recipe that all others were changed from
        assert said.last["release"] == "1"
        assert half_written(home) == []
        return
    refusal = said.refusal(2)
    assert refusal.startswith(f"{recipe.parent}/changed-small.toml: ")
    assert words in refusal
    assert not home.exists()


def test_int8_without_a_step_that_says_how_is_refused(recipe: Path, home: Path, toolchain: Toolchain) -> None:
    refusal = toolchain("build", changed(recipe, ('["fp32"]', '["fp32", "int8"]'))).refusal(2)
    assert refusal.endswith("build.precisions names int8, but no step says how; add [[step]] quantize = {}")
    assert not home.exists()


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path, toolchain: Toolchain) -> None:
    for verb in ("build", "deploy", "eval"):
        refusal = toolchain(verb, tmp_path / "no.toml").refusal(2)
        assert refusal == f"{tmp_path}/no.toml: no recipe here (No such file or directory); see recipes/ for examples"


def test_a_release_that_cannot_name_a_folder_is_refused(recipe: Path, home: Path, toolchain: Toolchain) -> None:
    for release in ("a/b", "", "../up", "-1"):
        refusal = toolchain("build", recipe, f"--release={release}").refusal(2)
        assert refusal.endswith(f"with . _ + - between, like 2026.11; got '{release}'")
    assert not home.exists()
    assert toolchain("build", recipe, "--release=2026.11", "--target=onnxruntime").last["release"] == "2026.11"


def test_missing_data_is_named_with_what_is_expected(recipe: Path, home: Path, toolchain: Toolchain) -> None:
    refusal = toolchain("build", changed(recipe, ('"pictures"', '"photos"'))).refusal()
    folder = recipe.parent / "photos"
    assert (
        refusal
        == f"{folder}: no such folder; [data] path must contain one folder per class, or train/ and test/ with them"
    )
    assert not home.exists()


def test_a_corrupt_image_is_named_whichever_split_it_is_in(recipe: Path, home: Path, toolchain: Toolchain) -> None:
    picture = recipe.parent / "pictures" / "b" / "3.png"
    whole = picture.read_bytes()
    picture.write_bytes(b"GIF89a" + whole)
    assert "/pictures: 1 of 40 files cannot be decoded as images: b/3.png (" in toolchain("build", recipe).refusal()
    for cut in sorted((recipe.parent / "pictures").glob("c/*.png")):
        cut.write_bytes(cut.read_bytes()[:-40])
    picture.write_bytes(whole)
    refusal = toolchain("build", changed(recipe, QUANTIZED, ('["fp32"]', '["fp32", "int8"]'))).refusal()
    assert re.search(r"/pictures: \d+ of 40 files cannot be decoded as images: c/", refusal)
    assert refusal.endswith("replace or remove them")
    assert half_written(home) == []


def test_a_checkpoint_that_does_not_fit_is_named_with_its_tensors(
    recipe: Path, home: Path, toolchain: Toolchain
) -> None:
    state = Small().state_dict()
    state["head.weights"] = state.pop("head.weight")
    state["conv.weight"] = torch.zeros(8, 1, 3, 3)
    save_file(state, recipe.parent / "other.safetensors")
    refusal = toolchain("build", changed(recipe, ("[input]", 'weights = "other.safetensors"\n[input]'))).refusal()
    assert refusal.startswith(f"{recipe.parent}/other.safetensors: does not fit nets.py:Small: ")
    assert "1 missing: 'head.weight' (nearest: 'head.weights')" in refusal
    assert "1 other shape: 'conv.weight' [8, 1, 3, 3], model [8, 3, 3, 3]" in refusal
    assert refusal.endswith("check model.source and model.options")
    assert half_written(home) == []


class Runs:
    """A pickle of this writes a file when it is loaded carelessly."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.mark),)


def test_a_pickle_that_would_run_code_runs_none(recipe: Path, home: Path, toolchain: Toolchain) -> None:
    mark, place = recipe.parent / "ran", recipe.parent / "evil.pt"
    torch.save({"state_dict": Runs(mark)}, place)
    refusal = toolchain("build", changed(recipe, ("[input]", 'weights = "evil.pt"\n[input]'))).refusal()
    assert (
        refusal
        == f"{place}: no weights: found a dict with state_dict; expected tensors by name: save model.state_dict()"
    )
    place.write_bytes(pickle.dumps(Runs(mark)))
    assert str(place) in toolchain("build", recipe.with_name("changed-small.toml")).refusal()
    assert not mark.exists()
    assert half_written(home) == []


@pytest.mark.parametrize(
    ("net", "line", "words"),
    [
        (
            "Bessel",
            "special.bessel_j0",
            "operation prims.bessel_j0 has no ONNX equivalent; rewrite it",
        ),
        ("Branches", "if x.sum() > 0", "control flow that depends on the image; use torch.where or torch.cond"),
        ("LeavesTorch", "np.sin(x.numpy())", "the model cannot be exported: "),
        (
            "FixedBatch",
            "",
            "[3, 3, 8, 8]: RuntimeError: shape '[2, 8]' is invalid for input of size 24; a batch of 2 worked: ",
        ),
    ],
)
def test_a_model_that_cannot_be_exported_is_told_with_operation_and_line(
    recipe: Path, home: Path, toolchain: Toolchain, net: str, line: str, words: str
) -> None:
    refusal = toolchain("build", changed(recipe, (":Small", f":{net}"))).refusal()
    numbers = [number for number, text in enumerate(NETS.read_text().splitlines(), 1) if line and line in text]
    assert words in refusal
    assert not numbers or refusal.startswith(f"{NETS}:{numbers[0]}: ")
    assert half_written(home) == []
    assert not (home / "bundles").exists()


def test_a_class_count_other_than_the_datas_is_told(recipe: Path, home: Path, toolchain: Toolchain) -> None:
    refusal = toolchain("build", changed(recipe, ("[input]", "options = { classes = 9 }\n[input]"))).refusal()
    assert "nets.py:Small: 9 classes, but the data has 4; choose the data that it was trained on" in refusal
    assert "finetune = { replace_head = true }" in refusal
    assert half_written(home) == []


def test_weights_that_are_not_numbers_are_named(recipe: Path, home: Path, toolchain: Toolchain) -> None:
    state = Small().state_dict()
    state["head.bias"][1] = float("nan")
    save_file(state, recipe.parent / "nan.safetensors")
    refusal = toolchain("build", changed(recipe, ("[input]", 'weights = "nan.safetensors"\n[input]'))).refusal()
    assert "'head.bias' has 1 NaN or infinite of 4 values; take an earlier checkpoint" in refusal
    assert "nan.safetensors" in refusal
    assert half_written(home) == []


def test_more_calibration_samples_than_pictures_are_refused_before_any_training(
    recipe: Path, home: Path, toolchain: Toolchain
) -> None:
    steps = "[[step]]\nfinetune = { epochs = 50 }\n[[step]]\nquantize = { samples = 33 }\n[build]"
    refusal = toolchain("build", changed(recipe, ("[build]", steps), ('["fp32"]', '["fp32", "int8"]'))).refusal()
    assert "folder: 33 calibration samples were asked for, its train split has " in refusal
    assert "lower quantize.samples, or name another data set under [calibration]" in refusal
    assert not list(home.rglob("*.bundle")), "nothing was built"
    assert not list(home.rglob("*.work")), "nor trained"


def test_a_bundle_with_a_changed_byte_is_refused_with_the_files_name(recipe: Path, toolchain: Toolchain) -> None:
    bundle = Path(toolchain("build", recipe, "--target=onnxruntime").last["bundle"])
    artifact = next(path for path in bundle.iterdir() if path.name.startswith("model"))
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.write_bytes(content)
    for words in (("show", bundle), ("image", bundle), ("eval", bundle, f"--recipe={recipe}")):
        refusal = toolchain(*words).refusal()
        assert refusal == f"{artifact}: changed since the bundle was written (digest differs); build it again"


@pytest.fixture
def small_disk(home: Path) -> Iterator[Path]:
    """TOOLCHAIN_HOME on a file system of its own."""
    home.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", home], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield home
    subprocess.run(["umount", home], check=True)


def test_a_full_disk_is_told_at_every_stage_and_the_build_goes_on_with_more_room(
    recipe: Path, small_disk: Path, toolchain: Toolchain
) -> None:
    quantized = changed(recipe, QUANTIZED, ('["fp32"]', '["fp32", "int8"]'))
    sizes, stopped = list(range(8, 1000, 16)), []
    for size in sizes:
        subprocess.run(["mount", "-o", f"remount,size={size}k", small_disk], check=True)
        said = toolchain("build", quantized)
        if said.code == 0:
            break
        refusal = said.refusal()
        assert "o space left on device" in refusal
        assert refusal.endswith("free some space and run the same command again to resume")
        assert half_written(small_disk) == []
        stopped.append([line for line in said.err.splitlines() if line.endswith(" ...")][-1:])
    assert said.last["release"] == "1"
    assert len(stopped) > 2
    assert "unchanged" in said.err
