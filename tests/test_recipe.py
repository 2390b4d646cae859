"""A recipe is read strictly: what does not fit is named with its place."""

from pathlib import Path

import pytest

from toolchain.errors import RecipeError
from toolchain.recipe import read_recipe

GOOD = """
name = "x"
[model]
source = "net.py:make"
[input]
height = 8
width = 8
[data]
name = "cifar10"
"""


def written(folder: Path, text: str) -> Path:
    place = folder / "x.toml"
    place.write_text(text)
    return place


def test_a_small_recipe_is_enough(tmp_path: Path) -> None:
    recipe = read_recipe(written(tmp_path, GOOD))
    assert recipe.input.shape == (8, 8, 3)
    assert recipe.build.precisions is None
    assert recipe.step == ()


def test_steps_keep_their_order_and_options(tmp_path: Path) -> None:
    text = GOOD + "[[step]]\nprune_channels = { ratio = 0.3 }\n[[step]]\nquantize = {}\n"
    assert read_recipe(written(tmp_path, text)).step == ({"prune_channels": {"ratio": 0.3}}, {"quantize": {}})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("[input]", "[inptu]"),
            "a recipe: no key `inptu`; did you mean input? It has: name, model, input, data, calibration, step, build",
        ),
        (("[data]", "[calibration.data]\npart = 1\n[data]"), "[calibration.data]: no key `part`; did you mean path?"),
        (("[data]", "[build]\nx = 1\n[data]"), "[build]: no key `x`. It has: precisions, max_accuracy_loss, "),
        (("height = 8", "height = 'tall'"), "x.toml: input.height: expected `int`, got `str`"),
        (('name = "cifar10"', ""), "[data] needs `name`; add it"),
        (('name = "x"', 'name = "a/b"'), "x.toml: name: expected `str` matching regex"),
        (("[data]", "[data"), "not TOML"),
        (
            ("width = 8", "width = 8\nmean = [0.5, 0.5]"),
            "x.toml: input: mean has 2 values; expected 1, or 3 (one per channel)",
        ),
        (("width = 8", "width = 8\nchannels = 1\nstd = [1, 1, 1]"), "input: std has 3 values; expected 1"),
        (("width = 8", "width = 8\nstd = [0.2, 0.0, 0.2]"), "input: std = [0.2, 0.0, 0.2]; expected values above zero"),
        (("width = 8", "width = 8\nstd = [-0.2]"), "input: std = [-0.2]; expected values above zero"),
        (("width = 8", "width = 8\nmean = [nan]"), "input: mean = [nan]; expected finite numbers"),
        (("width = 8", "width = 8\nstd = [inf]"), "input: std = [inf]; expected finite numbers"),
        (
            ("width = 8", "width = 8\nmean = [128]"),
            "input: mean = [128]; expected shares of 255, from 0 to 1; "
            "divide bytes by 255: mean = [0.501961], std = [0.00392157]",
        ),
        (
            ("width = 8", "width = 8\nmean = [123.675, 116.28, 103.53]\nstd = [0.229, 0.224, 0.225]"),
            "divide bytes by 255: mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225]",
        ),
        (("width = 8", "width = 8\nstd = [255]"), "input: std = [255]; expected shares of 255, from 0 to 1; divide"),
        (("width = 8", "width = 8\nmean = [-0.5]"), "from 0 to 1; see docs/guides/preprocessing.md"),
        (("width = 8", "width = 8\nchannels = 2"), "input: channels = 2; expected 3 (RGB) or 1 (grey)"),
        (("width = 8", ""), "[input] needs `width`; add it, or your training's own transform = \"train.py:eval_tr"),
        (("width = 8", "width = 0"), "input: width = 0; expected at least 1 pixel"),
        (("[data]", "[build]\nthreads = 0\n[data]"), "build.threads: expected `int` >= 1"),
        (("[data]", "[build]\nprecisions = []\n[data]"), "build.precisions: expected `array` of length >= 1"),
        (("[data]", "[build]\nmax_accuracy_loss = -1\n[data]"), "build.max_accuracy_loss: expected `float` >= 0"),
    ],
)
def test_an_invalid_key_is_named_with_its_place(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    place = written(tmp_path, GOOD.replace(*change))
    with pytest.raises(RecipeError, match=r"x\.toml") as raised:
        read_recipe(place)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_recipe_points_at_the_examples(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe here .* see recipes/"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("[[step]]\nfinetune = { lr = inf }\n", "step[0].finetune.lr = inf: expected a finite number"),
        (
            '[calibration.data]\nname = "a\\u0000b"\n',
            "calibration.data.name = 'a\\x00b': expected text without control",
        ),
        ("x = " + "[" * 3000, "not TOML: maximum recursion depth exceeded"),
        ("x = " + "9" * 5000, "not TOML: Exceeds the limit"),
    ],
)
def test_what_toml_can_write_and_nothing_can_mean_is_refused(tmp_path: Path, more: str, words: str) -> None:
    with pytest.raises(RecipeError) as error:
        read_recipe(written(tmp_path, GOOD + more))
    assert str(error.value).startswith(f"{tmp_path / 'x.toml'}: {words}")


@pytest.mark.parametrize("name", ["x\\n", "y" * 101, ""])
def test_a_name_that_names_no_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecipeError, match=r"x\.toml: name"):
        read_recipe(written(tmp_path, GOOD.replace('"x"', f'"{name}"')))
