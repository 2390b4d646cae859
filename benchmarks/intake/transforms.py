"""`[input] transform` on the validation transforms of torchvision, timm, albumentations and OpenCV, on 100 images.

    python -m benchmarks.intake.transforms     # QUICK=1: 10 images; else it writes a table of the guide
    IMAGES=12 python -m benchmarks.intake.transforms               # of fewer, which the table says

Each transform of programs/training_transforms.py is looked for as a build does it. timm and albumentations, which the
product does not contain, are installed pinned into a temporary folder.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from tempfile import TemporaryDirectory

import msgspec

from benchmarks import logger
from benchmarks.intake.guide import markdown_table, write_table
from benchmarks.rows import Row, print_rows, row
from toolchain.cli.console import log_to_stderr
from toolchain.transform.search import EQUAL

QUICK = bool(os.environ.get("QUICK"))
IMAGES = int(os.environ.get("IMAGES") or (10 if QUICK else 100))
PACKAGES = (
    *("timm==1.0.31", "albumentations==2.0.8", "albucore==0.0.24", "opencv-python-headless==5.0.0.93"),
    *("stringzilla==3.12.6", "simsimd==6.5.16"),
)
NAMED_BY_ALL = ("height", "width", "mean", "std")
PROGRAM = "benchmarks.intake.programs.training_transforms"
# levels: a crop is rounded in another order, and what is resized as floats never; more by bicubic on noise
LEVELS, BICUBIC_LEVELS = 1.01, 6.0
ONE_PIXEL_OFF = {"timm_border": 2.0}  # levels on average: it pads by floor and crops by round, [input] has one of them


class FoundTransform(msgspec.Struct, frozen=True):
    """lines: of [input]. largest, mean: differences in levels on `images` images."""

    transform: str
    lines: tuple[str, ...]
    images: int
    largest: float
    mean: float

    @property
    def name(self) -> str:
        return self.transform.rpartition(":")[2]


def find_all() -> Iterator[FoundTransform]:
    with TemporaryDirectory() as folder:
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}", *PACKAGES]
        subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
        environment = {**os.environ, "PYTHONPATH": folder, "NO_ALBUMENTATIONS_UPDATE": "1"}
        command = [sys.executable, "-W", "ignore", "-m", PROGRAM, str(IMAGES)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = msgspec.json.decode(line, type=FoundTransform)
                logger.info(f"{found.name}: at most {found.largest:.3g} levels")
                yield found
        if process.returncode:
            raise RuntimeError(f"{PROGRAM} ended with {process.returncode}")


def rows_of(found: Iterable[FoundTransform]) -> Iterator[Row]:
    for each in found:
        note = f"{each.images} images; {each.mean:.3f} levels on average: {'; '.join(each.lines)}"
        if each.name in ONE_PIXEL_OFF:
            yield row(f"{each.name}: mean difference", each.mean, "<=", ONE_PIXEL_OFF[each.name], "levels", note)
        else:
            bound = BICUBIC_LEVELS if 'filter = "bicubic"' in each.lines else LEVELS
            yield row(f"{each.name}: largest difference", each.largest, "<=", bound, "levels", note)


def rows() -> Iterator[Row]:
    yield from rows_of(find_all())


def markdown(found: Sequence[FoundTransform]) -> str:
    cells = [
        (
            f"`{each.name}`",
            ", ".join(f"`{line}`" for line in each.lines if not line.startswith(NAMED_BY_ALL)),
            f"{each.largest:.2g}" if each.largest >= EQUAL else "equal",
            f"{each.mean:.2g}" if each.largest >= EQUAL else "0",
        )
        for each in found
    ]
    heads = ("transform", "found, beside size, mean and std", "levels at most", "on average")
    return f"{markdown_table(heads, cells)}\nOf {found[0].images} drawn images of 60 to 900 pixels a side.\n"


def main() -> None:
    log_to_stderr()
    found = list(find_all())
    if not QUICK:
        write_table("preprocessing.md", "transforms", markdown(found))
    print_rows(list(rows_of(found)))


if __name__ == "__main__":
    main()
