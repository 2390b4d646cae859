"""Validation transforms as training scripts have them, of four libraries: what `[input] transform` names.

A program for an environment that has timm and albumentations too. Argument: how many images. Prints a JSON object for
each transform: the lines of [input] that were found, and how far those are from the transform on all images.
"""

import json
import sys
from pathlib import Path
from typing import Any

import albumentations
import cv2
import msgspec
import numpy as np
import torch
from albumentations.pytorch import ToTensorV2
from PIL import Image
from timm.data import create_transform
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.functional import InterpolationMode

from toolchain.transform.lines import input_lines
from toolchain.transform.search import draw_image, find_preprocessing
from toolchain.transform.user_transform import load_transform

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

torchvision_v1 = transforms.Compose(
    [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
)
torchvision_v1_bicubic = transforms.Compose(
    [
        transforms.Resize(232, InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
)
torchvision_v2 = v2.Compose(
    [
        v2.ToImage(),
        v2.Resize(256, antialias=True),
        v2.CenterCrop(224),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)
torchvision_v2_no_antialias = v2.Compose(
    [
        v2.ToImage(),
        v2.Resize((224, 224), antialias=False),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(MEAN, STD),
    ]
)
torchvision_v2_floats = v2.Compose(
    [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Resize((224, 224)), v2.Normalize(MEAN, STD)]
)
timm_bilinear = create_transform((3, 224, 224), is_training=False, interpolation="bilinear", crop_pct=0.875)
timm_bicubic = create_transform((3, 224, 224), is_training=False, interpolation="bicubic", crop_pct=0.95)
timm_squash = create_transform((3, 256, 256), is_training=False, interpolation="bicubic", crop_mode="squash")
timm_border = create_transform((3, 224, 224), is_training=False, interpolation="bilinear", crop_mode="border")
timm_inception = create_transform(
    (3, 299, 299), is_training=False, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3, crop_pct=0.897
)
albumentations_resize = albumentations.Compose(
    [albumentations.Resize(224, 224), albumentations.Normalize(MEAN, STD), ToTensorV2()]
)
albumentations_area = albumentations.Compose(
    [albumentations.Resize(224, 224, interpolation=cv2.INTER_AREA), albumentations.Normalize(MEAN, STD), ToTensorV2()]
)
albumentations_crop = albumentations.Compose(
    [
        albumentations.SmallestMaxSize(256),
        albumentations.CenterCrop(224, 224),
        albumentations.Normalize(MEAN, STD),
        ToTensorV2(),
    ]
)
albumentations_letterbox = albumentations.Compose(
    [
        albumentations.LongestMaxSize(320),
        albumentations.PadIfNeeded(320, 320, border_mode=cv2.BORDER_CONSTANT, fill=114),
        albumentations.Normalize((0.0,) * 3, (1.0,) * 3),
        ToTensorV2(),
    ]
)


def opencv_by_hand(image: Image.Image) -> Any:
    """As scripts do that read by cv2.imread."""
    pixels = cv2.resize(np.asarray(image)[..., ::-1], (224, 224), interpolation=cv2.INTER_LINEAR)
    return (pixels.transpose(2, 0, 1) - np.array([103.939, 116.779, 123.68]).reshape(3, 1, 1)).astype(np.float32)


NAMES = tuple(name for name in globals() if name.startswith(("torchvision_", "timm_", "albumentations_", "opencv_")))


def main() -> None:
    sizes = np.random.default_rng(23).integers(60, 900, (int(sys.argv[1]), 2)).tolist()
    images = [draw_image((height, width)) for height, width in sizes]
    for name in NAMES:
        transform = load_transform(f"{Path(__file__).name}:{name}", Path(__file__).parent, gray=False)
        match = find_preprocessing(transform, images)
        print(json.dumps({"lines": input_lines(match.preprocessing), **msgspec.to_builtins(match)}), flush=True)


if __name__ == "__main__":
    main()
