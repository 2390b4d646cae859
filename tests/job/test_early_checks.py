"""What is wrong with a recipe and is said before torch is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import ROOT
from toolchain.errors import DataError, ModelError, RecipeError, ToolchainError
from toolchain.job.early_checks import check_recipe

RECIPE = """
name = "small"
[model]
source = "net.py:build"
weights = "net.pt"
[input]
height = 8
width = 8
[data]
name = "folder"
path = "pictures"
[[step]]
finetune = { epochs = 2 }
"""
WITHOUT_TORCH = """
import sys
from toolchain.cli import COMMANDS
from toolchain.cli.parser import run
code = run(COMMANDS, sys.argv[1:])
print(sorted({"torch", "openvino", "onnx", "docker", "fire"} & set(sys.modules) - {"fire"}))
raise SystemExit(code)
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "net.py").touch()
    (tmp_path / "net.pt").touch()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "small.toml").write_text(RECIPE)
    return tmp_path / "small.toml"


def test_a_recipe_whose_keys_and_files_are_there_passes(recipe: Path) -> None:
    assert check_recipe(recipe).name == "small"


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("height", "hight", RecipeError, r"\[input\] needs `height`"),
        ("epochs", "epoch", RecipeError, "step 1, finetune: no option 'epoch'; it has: epochs"),
        ("net.py", "nets.py", ModelError, r"/nets.py: no such file; model.source expects path/to/file.py:function"),
        ("net.pt", "nets.pt", ModelError, r"/nets.pt: no such file; model.weights expects official, random, own, or"),
        ("net.py:build", "net.onnx", ModelError, r"/net.onnx: no such file; model.source expects torchvision:NAME"),
        ("pictures", "images", DataError, r"/images: no such folder; \[data\] path must contain one folder per class"),
        ("width = 8", 'transform = "t.py:t"', ModelError, r"/t.py: no such file; input.transform expects"),
    ],
)
def test_a_wrong_key_or_path_is_named(recipe: Path, old: str, new: str, kind: type[ToolchainError], words: str) -> None:
    recipe.write_text(RECIPE.replace(old, new))
    with pytest.raises(kind, match=words):
        check_recipe(recipe)


@pytest.mark.parametrize(
    "words",
    [
        ("build", "nope.toml"),
        ("deploy", "nope.toml"),
        ("compare", "nope.toml"),
        ("weights", "nope.toml", "--out=x.safetensors"),
        ("eval", "nope.toml"),
        ("eval", "nope"),
        ("image", "nope"),
        ("show", "."),
    ],
    ids=" ".join,
)
def test_a_wrong_word_is_refused_without_loading_a_library(words: tuple[str, ...], tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n")
    assert len(done.stderr.splitlines()) == 1


def test_a_wrong_option_is_refused_without_loading_a_library(recipe: Path) -> None:
    recipe.write_text(RECIPE.replace("epochs", "epoch"))
    command = [sys.executable, "-c", WITHOUT_TORCH, "build", str(recipe)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n")
