"""How long a folder of 10,000 photographs is checked before a build, and that all bad ones are named at once.

Draws JPEGs of 500x375 pixels (QUICK=1: 1,000 of them). Uses two cores, of however many there are.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks import logger
from benchmarks.rows import Row, print_rows, row
from toolchain.cli.console import log_to_stderr
from toolchain.data import load
from toolchain.errors import DataError
from toolchain.paths import HOME
from toolchain.recipe import DataSpec
from toolchain.records.tensors import Preprocessing

QUICK = bool(os.environ.get("QUICK"))
COUNT, CLASSES, DRAWN, BAD = (1_000 if QUICK else 10_000), 10, 40, 12
WIDTH, HEIGHT, COARSE = 500, 375, 25
IMAGES_A_SECOND = 10_000 / 60
CORES = 2
START = b"\xff\xd8"
NAME = "photos"
SHAPE = Preprocessing(224, 224, resize=256)


def rows() -> list[Row]:
    with TemporaryDirectory() as folder, _home(Path(folder) / "home"), _two_cores():
        base = Path(folder)
        paths = _draw(base / NAME)
        first, again = _check(base), _check(base)
        named = _count_named(base, paths[:: COUNT // BAD][:BAD])
    size = f"images of {WIDTH}x{HEIGHT} pixels, {CORES} cores{', QUICK=1' if QUICK else ''}"
    seconds, share = f"{again:.1f} s: read, not decoded", 100 * again / first
    return [
        row(f"a folder of {COUNT:,} images, checked", first, "<=", COUNT / IMAGES_A_SECOND, "s", size),
        row("images checked a second", COUNT / first, ">=", round(IMAGES_A_SECOND), "", size),
        row("checked again, share of that time", share, "<=", 50, "%", seconds),
        row(f"truncated files named at once, of {BAD}", named, ">=", BAD, ""),
    ]


def _draw(folder: Path) -> list[Path]:
    """Files that differ in a comment, of DRAWN different images."""
    random = np.random.default_rng(0)
    encoded = [_encode(random) for _ in range(DRAWN)]
    paths = []
    for number in range(COUNT):
        place = folder / ("test" if number % 5 == 0 else "train") / f"class-{number // 5 % CLASSES}"
        place.mkdir(parents=True, exist_ok=True)
        comment = f"{number:08}".encode()
        path = place / f"{number:05}.jpg"
        content = encoded[number % DRAWN].removeprefix(START)
        path.write_bytes(START + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + content)
        paths.append(path)
    return paths


def _encode(random: np.random.Generator) -> bytes:
    """A JPEG with edges and noise, about as large as a photograph's."""
    coarse = Image.fromarray(random.integers(0, 256, (HEIGHT // COARSE, WIDTH // COARSE, 3), np.uint8))
    smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.float64)
    noisy = (smooth + random.normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(buffer := BytesIO(), "JPEG", quality=85)
    return buffer.getvalue()


def _check(base: Path) -> float:
    """Seconds until a data set is ready to be built with."""
    began = time.monotonic()
    load(DataSpec("folder", NAME), SHAPE, base)
    return time.monotonic() - began


def _count_named(base: Path, cut: list[Path]) -> int:
    """How many of the files that are cut here are named, in the line or in the list."""
    for path in cut:
        path.write_bytes(path.read_bytes()[:-2000])
    try:
        load(DataSpec("folder", NAME), SHAPE, base)
    except DataError as error:
        logger.info(str(error))
        listing = re.search(r"all of them in (\S+);", str(error))
        text = Path(listing[1]).read_text() if listing else str(error)
        return sum(path.name in text for path in cut)
    return 0


@contextmanager
def _home(folder: Path) -> Iterator[None]:
    before = os.environ.get(HOME)
    os.environ[HOME] = str(folder)
    try:
        yield
    finally:
        os.environ.pop(HOME)
        if before is not None:
            os.environ[HOME] = before


@contextmanager
def _two_cores() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:CORES])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
