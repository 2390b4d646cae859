"""Images whose classes are told apart by colour and pattern, so that a wrong order of channels or scale is seen."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toolchain.records.tensors import Preprocessing
from toolchain.transform.colours import normalize

COLOURS = ((200, 60, 40), (50, 70, 210))  # reddish, bluish: each the other with its channels turned round, nearly
PATTERNS = ("disk", "rows", "columns")
CLASSES = tuple(f"{pattern}-{number}" for pattern in PATTERNS for number in range(len(COLOURS)))
NOISE = 14.0
Pixels = NDArray[np.uint8]


def draw(label: int, side: int, random: np.random.Generator) -> Pixels:
    """uint8 [side, side, 3] of class `label`."""
    pattern, colour = PATTERNS[label // len(COLOURS)], np.array(COLOURS[label % len(COLOURS)])
    rows, columns = np.mgrid[:side, :side]
    period, phase = side / random.uniform(3, 6), random.uniform(0, 6)
    centre = random.uniform(side * 0.35, side * 0.65, 2)
    mask = {
        "disk": np.hypot(rows - centre[0], columns - centre[1]) < side * random.uniform(0.2, 0.33),
        "rows": np.sin(2 * np.pi * rows / period + phase) > 0,
        "columns": np.sin(2 * np.pi * columns / period + phase) > 0,
    }[pattern]
    ground = random.uniform(70, 150)
    image = np.where(mask[..., None], colour + random.uniform(-25, 25), ground)
    return (image + random.normal(0, NOISE, image.shape)).clip(0, 255).astype(np.uint8)


def write_folder(folder: Path, side: int, labels: Sequence[int], grey: bool, train: int, test: int) -> None:
    """train/CLASS and test/CLASS with so many PNGs of each class."""
    random = np.random.default_rng(side + len(labels))
    for part, count in (("train", train), ("test", test)):
        for label in labels:
            place = folder / part / CLASSES[label]
            place.mkdir(parents=True)
            for number in range(count):
                image = Image.fromarray(draw(label, side, random))
                (image.convert("L") if grey else image).save(place / f"{number:03}.png")


def read_part(folder: Path, part: str, shape: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """As `shape` has them: float32 [N, channels, height, width] and their classes. The images have their size."""
    values, labels = [], []
    for label, place in enumerate(sorted((folder / part).iterdir())):
        for path in sorted(place.iterdir()):
            image = Image.open(path).convert("L" if shape.channels == 1 else "RGB")
            pixels = np.asarray(image).reshape(image.height, image.width, shape.channels)
            values.append(normalize(pixels, shape).astype(np.float32))
            labels.append(label)
    return np.stack(values), np.array(labels)
