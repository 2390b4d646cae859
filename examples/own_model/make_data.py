"""Write two example data sets: images of stripes in noise, whose class is the angle of the stripes.

    python examples/own_model/make_data.py        -> examples/own_model/data/{grey28,wide}/{train,test}/angle_*/

The same images every time (seeded): 980 + 280 grey ones of 28x28, 600 + 240 coloured ones of 96x160.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]
FOLDER = Path(__file__).parent / "data"


def stripes(angle: float, height: int, width: int, channels: int, noise: float, random: np.random.Generator) -> Picture:
    """A grating of random phase, period and colours under noise: uint8 [height, width, channels]."""
    angle += random.normal(0, 3)
    period, phase = random.uniform(5, 9), random.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:height, :width]
    across = columns * np.cos(np.radians(angle)) + rows * np.sin(np.radians(angle))
    wave = np.sin(2 * np.pi * across / period + phase)[..., None]
    image = 128 + wave * random.uniform(20, 70, channels) + random.normal(0, noise, (height, width, channels))
    return image.clip(0, 255).astype(np.uint8)


def make(name: str, classes: int, size: tuple[int, int, int], train: int, test: int, noise: float) -> Path:
    """Write data/`name` with `train` and `test` images per class; returns its folder."""
    random = np.random.default_rng(7)
    for part, count in (("train", train), ("test", test)):
        for label in range(classes):
            angle = 180 * label / classes
            folder = FOLDER / name / part / f"angle_{angle:03.0f}"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                image = stripes(angle, *size, noise, random)
                Image.fromarray(image.squeeze()).save(folder / f"{number:04}.{'png' if size[2] == 1 else 'jpg'}")
    return FOLDER / name


def main() -> None:
    for folder in (make("grey28", 7, (28, 28, 1), 140, 40, 60), make("wide", 4, (96, 160, 3), 150, 60, 90)):
        print(folder)


if __name__ == "__main__":
    main()
