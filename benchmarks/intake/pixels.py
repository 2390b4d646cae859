"""Preprocessing's ways of resizing against the library that each is named after, on 100 drawn photographs.

OpenCV, which the product does not contain, is installed pinned into a temporary folder. Each row's bound is the largest
difference in levels that docs/guides/preprocessing.md states. QUICK=1: 10 images.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from benchmarks.rows import Row, print_rows, row
from deploy.runtime.preprocessing import fit_array
from toolchain.records.tensors import Filter, Preprocessing, Resampler
from toolchain.transform.search import draw_image

IMAGES, QUICK_IMAGES = 100, 10
SIZE = (192, 224)
OPENCV = "opencv-python-headless==5.0.0.93"
RESIZE_BY_OPENCV = """
import sys, cv2, numpy as np
names = dict(bilinear=cv2.INTER_LINEAR, bicubic=cv2.INTER_CUBIC, lanczos=cv2.INTER_LANCZOS4,
             nearest=cv2.INTER_NEAREST, area=cv2.INTER_AREA)
images = np.load(sys.argv[1])
results = {f"{way} {key}": cv2.resize(images[key], (224, 192), interpolation=flag)
           for key in images.files for way, flag in names.items()}
np.savez(sys.argv[2], **results)
"""
Pixels = NDArray[np.uint8]
# the largest difference that the guide states; 0: equal to the byte
BOUNDS: dict[tuple[Resampler, Filter], int] = {
    **{("pillow", name): 0 for name in ("bilinear", "bicubic", "lanczos", "nearest", "area")},
    **{("torch-no-antialias", name): 0 for name in ("bilinear", "bicubic", "nearest")},
    **{("opencv", name): 0 for name in ("bilinear", "nearest", "area")},
    ("opencv", "bicubic"): 1,
    ("opencv", "lanczos"): 1,
}
ANTIALIASED: dict[Filter, int] = {"bilinear": 2, "bicubic": 5}
PILLOW = {"bilinear": 2, "bicubic": 3, "lanczos": 1, "nearest": 0, "area": 4}


def rows() -> Iterator[Row]:
    images = draw_photographs(QUICK_IMAGES if os.environ.get("QUICK") else IMAGES)
    with TemporaryDirectory() as folder:
        by_opencv = resize_by_opencv(images, folder)
        for (resampler, name), bound in BOUNDS.items():
            ours = Preprocessing(*SIZE, filter=name, resampler=resampler)
            theirs = partial(resize_by_library, resampler, name, images, by_opencv)
            yield compare(f"{resampler}, {name}", images, ours, theirs, bound)
        for name, bound in ANTIALIASED.items():
            what = f"pillow, {name} for torch tensors with antialiasing"
            theirs = partial(by_torch, images, name, True)
            yield compare(what, images, Preprocessing(*SIZE, filter=name), theirs, bound)


def resize_by_library(
    resampler: Resampler, name: Filter, images: list[Pixels], by_opencv: dict[str, Pixels], at: int
) -> Pixels:
    if resampler == "opencv":
        return by_opencv[f"{name} {at}"]
    return by_pillow(images[at], name) if resampler == "pillow" else by_torch(images, name, False, at)


def compare(what: str, images: list[Pixels], ours: Preprocessing, theirs: Callable[[int], Pixels], bound: int) -> Row:
    differences = [
        np.abs(fit_array(image, ours).astype(int) - theirs(at).astype(int)) for at, image in enumerate(images)
    ]
    mean, changed = (
        float(np.mean([each.mean() for each in kind])) for kind in (differences, [d > 0 for d in differences])
    )
    note = f"{len(images)} images; {mean:.4f} levels on average, {changed:.2%} of values differ"
    return row(f"{what}: largest difference", max(int(each.max()) for each in differences), "<=", bound, "levels", note)


def draw_photographs(count: int) -> list[Pixels]:
    sizes = np.random.default_rng(19).integers(60, 900, (count, 2)).tolist()
    return [np.asarray(draw_image((height, width))) for height, width in sizes]


def by_pillow(image: Pixels, name: str) -> Pixels:
    resized = Image.fromarray(image).resize(SIZE[::-1], Image.Resampling(PILLOW[name]))
    return np.asarray(resized)


def by_torch(images: list[Pixels], name: str, antialias: bool, at: int) -> Pixels:
    tensor = torch.from_numpy(images[at].copy()).permute(2, 0, 1)
    resized = functional.resize(tensor, list(SIZE), v2.InterpolationMode(name), antialias=antialias)
    return np.asarray(resized.permute(1, 2, 0).numpy())


def resize_by_opencv(images: list[Pixels], folder: str) -> dict[str, Pixels]:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}/site", OPENCV]
    subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
    np.savez(f"{folder}/images.npz", allow_pickle=False, **{str(at): image for at, image in enumerate(images)})
    command = [sys.executable, "-c", RESIZE_BY_OPENCV, f"{folder}/images.npz", f"{folder}/out.npz"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": f"{folder}/site"})
    with np.load(f"{folder}/out.npz") as results:
        return {key: results[key] for key in results.files}


if __name__ == "__main__":
    print_rows(list(rows()))
