"""What a transform does is found by trying: sizes, filters, libraries, rounding, colours, mean and deviation."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2

from deploy.runtime.preprocessing import fit_image
from tests.transform.drawn import IMAGES
from toolchain.errors import ModelError
from toolchain.records.tensors import Preprocessing
from toolchain.transform.lines import input_lines
from toolchain.transform.search import find_preprocessing
from toolchain.transform.user_transform import UserTransform

IMAGENET = transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
CAFFE = np.array([103.939, 116.779, 123.68], np.float32)


def ours(**keys: Any) -> Callable[[Image.Image], object]:
    """Another library's transform, by our rule for it: test_resampling.py holds the rules against the libraries."""
    return lambda image: fit_image(image, Preprocessing(32, 40, **keys)) / 255


def caffe(image: Image.Image) -> object:
    return np.asarray(image.resize((40, 32), Image.Resampling.BOX), np.float32)[..., ::-1] - CAFFE


def pad(image: Image.Image) -> object:
    padded = ImageOps.pad(image, (48, 40), Image.Resampling.BICUBIC, color=(10, 20, 30))
    return transforms.ToTensor()(padded)


MEAN, STD = "mean = [0.485, 0.456, 0.406]", "std = [0.229, 0.224, 0.225]"
CASES: dict[str, tuple[Callable[[Image.Image], object], list[str]]] = {
    "torchvision": (
        transforms.Compose([transforms.Resize(44), transforms.CenterCrop(36), transforms.ToTensor(), IMAGENET]),
        ["height = 36", "width = 36", MEAN, STD, "resize = 44"],
    ),
    "height and width, cropped": (
        transforms.Compose(
            [
                *(transforms.Resize((44, 50), InterpolationMode.LANCZOS), transforms.CenterCrop(32)),
                *(transforms.ToTensor(), transforms.Normalize([0.5], [0.5])),
            ]
        ),
        ["height = 32", "width = 32", "mean = [0.5]", "std = [0.5]", "resize = [44, 50]", 'filter = "lanczos"'],
    ),
    "tensors without antialiasing": (
        v2.Compose([v2.ToImage(), v2.Resize(40, antialias=False), v2.CenterCrop(32), v2.ToDtype(torch.float32, True)]),
        ["height = 32", "width = 32", "resize = 40", 'resampler = "torch-no-antialias"'],
    ),
    "bytes": (v2.Compose([v2.ToImage(), v2.Resize((32, 32))]), ["height = 32", "width = 32", "scale = 1"]),
    "OpenCV's area": (
        ours(filter="area", resampler="opencv"),
        ["height = 32", "width = 40", 'filter = "area"', 'resampler = "opencv"'],
    ),
    "a letterbox as Ultralytics has it": (
        ours(letterbox=(114,), resampler="opencv", size_rounding="round", offset="floor"),
        [
            *("height = 32", "width = 40", 'resampler = "opencv"', "letterbox = [114]"),
            *('size_rounding = "round"', 'offset = "floor"'),
        ],
    ),
    "albumentations' crop": (
        ours(resize=45, resampler="opencv", size_rounding="round", offset="floor"),
        [
            *("height = 32", "width = 40", "resize = 45", 'resampler = "opencv"'),
            *('size_rounding = "round"', 'offset = "floor"'),
        ],
    ),
    "Pillow's pad": (
        pad,
        [
            *("height = 40", "width = 48", 'filter = "bicubic"', "letterbox = [10, 20, 30]"),
            'size_rounding = "round"',
        ],
    ),
    "Caffe": (
        caffe,
        [
            *("height = 32", "width = 40", "mean = [103.939, 116.779, 123.68]", 'order = "bgr"'),
            *('filter = "area"', "scale = 1"),
        ],
    ),
    "gray": (
        transforms.Compose([transforms.Grayscale(), transforms.Resize((28, 28)), transforms.ToTensor()]),
        ["height = 28", "width = 28", "channels = 1"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_lines_of_input_that_a_transform_is_equal_to(name: str) -> None:
    transform, lines = CASES[name]
    match = find_preprocessing(UserTransform("t.py:transform", transform), IMAGES)
    assert input_lines(match.preprocessing) == lines
    assert match.images == len(IMAGES) and match.mean < 0.2 and match.largest < 2


def test_floats_that_are_never_rounded_are_found_to_within_a_level() -> None:
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Resize((32, 32), InterpolationMode.BICUBIC, antialias=False), IMAGENET]
    )
    match = find_preprocessing(UserTransform("t.py:transform", transform), IMAGES)
    assert input_lines(match.preprocessing)[2:4] == [MEAN, STD]
    assert match.preprocessing.filter == "bicubic" and match.preprocessing.resampler != "pillow"
    assert 0.1 < match.mean < 0.5
    assert match.difference.startswith("to within ") and "of 255 levels on 5 images" in match.difference


def test_without_a_resize_the_size_is_that_of_the_images() -> None:
    images = [IMAGES[0]] * 3
    match = find_preprocessing(UserTransform("t.py:transform", transforms.ToTensor()), images)
    assert input_lines(match.preprocessing) == ["height = 61", "width = 90"]
    assert match.difference == "to the bit on 3 images"


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        (transforms.RandomResizedCrop(32), "another result each time; name the transform of validation"),
        (transforms.Resize(32), "for another; a model is exported for one size: add a resize and a crop"),
        (lambda image: np.zeros((3, 32, 32)), "the same value for black and white"),
        (lambda image: 1 - np.asarray(image.resize((32, 32))) / 255, "smaller values for brighter pixels"),
        (transforms.Compose([transforms.Resize((32, 32)), transforms.Grayscale(3)]), "mixes the colours"),
    ],
)
def test_what_no_input_can_say_is_refused(transform: Callable[[Image.Image], object], words: str) -> None:
    whole = transforms.Compose([transform, np.array])
    with pytest.raises(ModelError, match=r"^t\.py:transform ") as raised:
        find_preprocessing(UserTransform("t.py:transform", whole), IMAGES)
    assert words in str(raised.value) and "\n" not in str(raised.value)


def test_what_cannot_be_explained_is_found_as_near_as_it_is() -> None:
    """Of each image the darkest byte is taken away: no rule says so, and what is left is told."""

    def stretched(image: Image.Image) -> object:
        values = np.asarray(image.resize((32, 32))) / 255
        return values - values.min() * (values.max() < 0.999)

    match = find_preprocessing(
        UserTransform("t.py:transform", stretched), [image.point(lambda x: x // 2 + 60) for image in IMAGES]
    )
    assert match.mean > 5 and match.preprocessing.shape == (32, 32, 3)
