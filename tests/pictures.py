"""Pictures of noise in a folder a class, for tests in which nothing needs to be learned."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(folder: Path, size: int) -> None:
    """Four classes (a, b, c, d) of ten random RGB pictures of size x size below folder/pictures; always the same."""
    random = np.random.default_rng(0)
    for label in "abcd":
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(10):
            pixels = random.integers(0, 256, (size, size, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / label / f"{number}.png")
