"""A transform is loaded from the user's file as a model is, and what it returns is held against what a model takes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from toolchain.errors import ModelError, RecipeError
from toolchain.transform.user_transform import UserTransform, load_transform

IMAGE = Image.new("RGB", (5, 4), (255, 0, 0))
FILE = """
import numpy as np
def transform(image): return np.asarray(image) / 255
def make(size=4): return transform
def nothing(): return None
def broken(): raise OSError("no such thing")
class Transform:
    def __call__(self, image): return np.asarray(image) / 255
one = Transform()
size = 5
"""


@pytest.mark.parametrize("name", ["transform", "make", "Transform", "one"])
def test_a_function_a_class_an_object_and_what_makes_one_are_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / "train.py").write_text(FILE)
    values = load_transform(f"train.py:{name}", tmp_path, gray=False).apply(IMAGE)
    assert values.shape == (3, 4, 5) and values[:, 0, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("train.py", 'input.transform = "train.py"; expected path/to/file.py:NAME'),
        ("none.py:transform", "no such file; input.transform expects path/to/file.py:function"),
        (
            "train.py:other",
            "no function or transform 'other'; it has: Transform, broken, make, nothing, one, transform",
        ),
        ("train.py:size", "no function or transform 'size'"),
        ("train.py:nothing", "nothing() returned NoneType; expected a function from an image to a tensor"),
        ("train.py:broken", "broken() failed: OSError: no such thing"),
    ],
)
def test_what_is_no_transform_is_named_in_one_line(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "train.py").write_text(FILE)
    with pytest.raises((ModelError, RecipeError)) as raised:
        load_transform(name, tmp_path, gray=False)
    assert words in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "returned",
    [
        torch.zeros(3, 4, 5),
        torch.zeros(1, 3, 4, 5),
        np.zeros((4, 5, 3), np.uint8),
        {"image": torch.zeros(3, 4, 5)},
        {"pixel_values": [np.zeros((3, 4, 5))]},
    ],
)
def test_every_usual_form_of_a_result_is_read(returned: object) -> None:
    values = UserTransform("t.py:f", lambda image: returned).apply(IMAGE)
    assert values.shape == (3, 4, 5) and values.dtype == np.float32


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda image: "x", "returned a str; expected a tensor"),
        (
            lambda image: torch.zeros(4, 4, 5),
            "returned a Tensor of shape [4, 4, 5]; expected a tensor [1 or 3 channels",
        ),
        (lambda image: None, "returned a NoneType; expected"),
        (lambda image: torch.full((3, 4, 5), torch.nan), "values that are not finite"),
        (lambda image: 1 / 0, "failed on an image of 5x4 pixels: ZeroDivisionError: division by zero"),
    ],
)
def test_any_other_result_is_refused_in_one_line(function: Callable[[Image.Image], object], words: str) -> None:
    with pytest.raises(ModelError, match=r"^t\.py:f ") as raised:
        UserTransform("t.py:f", function).apply(IMAGE)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_gray_images_are_given_where_they_are_asked_for() -> None:
    assert UserTransform("t.py:f", np.asarray, gray=True).apply(IMAGE).shape == (1, 4, 5)
