"""Preprocessing's ways of resizing against the library that each is named after, on 100 drawn photographs.

OpenCV, which the product does not contain, is installed pinned into a temporary folder. Each row's bound is the largest
difference in levels that docs/guides/preprocessing.md stated when it was set. QUICK=1: 10 images; without it,
`python -m benchmarks.intake.pixels` writes the table of that page.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from benchmarks.intake.guide import markdown_table, write_table
from benchmarks.rows import Row, print_rows, row
from deploy.runtime.preprocessing import fit_array
from toolchain.cli.console import log_to_stderr
from toolchain.progress import track
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
LIBRARIES: dict[Resampler, str] = {
    "pillow": "Pillow",
    "torch-no-antialias": "torchvision on tensors, `antialias=False`",
    "opencv": "`cv2.resize`",
}
ANTIALIASED: dict[Filter, int] = {"bilinear": 2, "bicubic": 5}
PILLOW = {"bilinear": 2, "bicubic": 3, "lanczos": 1, "nearest": 0, "area": 4}


class PixelDifference(msgspec.Struct, frozen=True):
    """Levels between ours and a library's. bound: the largest that the guide states; changed: share of values."""

    resampler: str
    against: str
    filter: str
    bound: int
    images: int
    largest: int
    mean: float
    changed: float

    @property
    def what(self) -> str:
        return f"{self.resampler} {self.filter} against {self.against}"


def differences() -> Iterator[PixelDifference]:
    images = draw_photographs(QUICK_IMAGES if os.environ.get("QUICK") else IMAGES)
    with TemporaryDirectory() as folder:
        by_opencv = resize_by_opencv(images, folder)
        for (resampler, name), bound in BOUNDS.items():
            ours = Preprocessing(*SIZE, filter=name, resampler=resampler)
            theirs = partial(resize_by_library, resampler, name, images, by_opencv)
            yield compare(LIBRARIES[resampler], images, ours, theirs, bound)
        for name, bound in ANTIALIASED.items():
            theirs = partial(by_torch, images, name, True)
            yield compare(
                "torchvision on tensors, `antialias=True`", images, Preprocessing(*SIZE, filter=name), theirs, bound
            )


def rows_of(found: Iterable[PixelDifference]) -> Iterator[Row]:
    for each in found:
        note = f"{each.images} images; {each.mean:.4f} levels on average, {each.changed:.2%} of values differ"
        yield row(f"{each.what}: largest difference", each.largest, "<=", each.bound, "levels", note)


def rows() -> Iterator[Row]:
    yield from rows_of(differences())


def markdown(found: Sequence[PixelDifference]) -> str:
    """A row for each way, and how many images they are of."""
    heads = ("resampler", "against", "filter", "largest difference", "on average", "values that differ")
    cells = [
        (
            f'`"{each.resampler}"`',
            each.against,
            each.filter,
            f"{each.largest} level{'s' * (each.largest > 1)}" if each.largest else "equal to the byte",
            (f"{each.mean:.2g}" if each.mean >= 1e-3 else "below 0.001") if each.largest else "0",
            (f"{each.changed:.2%}" if each.changed >= 1e-4 else "fewer than 0.01%") if each.largest else "none",
        )
        for each in found
    ]
    return f"{markdown_table(heads, cells)}\nOf {found[0].images} drawn photographs of 60 to 900 pixels a side.\n"


def resize_by_library(
    resampler: Resampler, name: Filter, images: list[Pixels], by_opencv: dict[str, Pixels], at: int
) -> Pixels:
    if resampler == "opencv":
        return by_opencv[f"{name} {at}"]
    return by_pillow(images[at], name) if resampler == "pillow" else by_torch(images, name, False, at)


def compare(
    against: str, images: list[Pixels], ours: Preprocessing, theirs: Callable[[int], Pixels], bound: int
) -> PixelDifference:
    found = [np.abs(fit_array(image, ours).astype(int) - theirs(at).astype(int)) for at, image in enumerate(images)]
    mean, changed = (float(np.mean([each.mean() for each in kind])) for kind in (found, [each > 0 for each in found]))
    largest = max(int(each.max()) for each in found)
    return PixelDifference(ours.resampler, against, ours.filter, bound, len(images), largest, mean, changed)


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


def main() -> None:
    log_to_stderr()
    found = list(track(differences(), "comparing pixels", len(BOUNDS) + len(ANTIALIASED)))
    if not os.environ.get("QUICK"):
        write_table("preprocessing.md", "pixels", markdown(found))
    print_rows(list(rows_of(found)))


if __name__ == "__main__":
    main()
