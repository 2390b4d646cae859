"""What a build saw, kept beside the release for its report: how good each precision is, the mistakes, a contact sheet.

It stays on the build machine, below home()/evaluations by the bundle's digest: a data set's images have no business in
a container. Knows splits of images; nothing of recipes, engines or pages.
"""

from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from PIL import Image

from toolchain.accuracy.quality import Quality
from toolchain.records.storage import atomic_folder, encode_record, read_record
from toolchain.records.tensors import Array

if TYPE_CHECKING:
    from toolchain.data.dataset import DataSet, Split

FORMAT = 1
RECORD = "evaluation.json"
SHEET_CLASSES, SHEET_EACH = 20, 6
SHEET_SPLITS = ("train", "validate", "test")
SIDE, SMALL = 128, 64  # pixels; what is smaller than SMALL is kept as it is, without loss


class SheetImage(msgspec.Struct, frozen=True):
    """label: its class, the first of several; None: it has none. file: in the folder."""

    label: int | None
    file: str


class ReleaseQuality(msgspec.Struct, frozen=True):
    """What the report shows of a release's data. classes: as the data names them; counts: images of each class by
    split; split: the one that `precisions` were measured on; mistakes: files of those of `chosen`, in their order."""

    data: str
    classes: tuple[str, ...]
    counts: dict[str, tuple[int, ...]]
    size: tuple[int, ...]
    split: str
    precisions: dict[str, Quality]
    chosen: str
    mistakes: tuple[str, ...]
    sheet_split: str
    sheet: tuple[SheetImage, ...]
    format: int = FORMAT


class KeptEvaluation(msgspec.Struct, frozen=True):
    """An evaluation and the folder of its images."""

    folder: Path
    record: ReleaseQuality

    def read_image(self, name: str) -> bytes:
        """The bytes of a PNG or JPEG file."""
        return (self.folder / name).read_bytes()


def evaluation_folder(home: Path, bundle: str) -> Path:
    return home / "evaluations" / bundle


def keep_evaluation(
    folder: Path, data: "DataSet", classes: tuple[str, ...], precisions: Mapping[str, Quality], chosen: str
) -> KeptEvaluation:
    """Write it completely or not at all; what an earlier build of the same bundle kept is kept."""
    if (folder / RECORD).is_file():
        return KeptEvaluation(folder, read_record(folder / RECORD, ReleaseQuality, FORMAT))
    quality = precisions.get(chosen)
    with atomic_folder(folder) as temporary:
        mistakes = tuple(_write_mistakes(temporary, data, quality)) if quality else ()
        split = next((name for name in SHEET_SPLITS if len(data.splits.get(name, ()))), "")
        sheet = tuple(_write_sheet(temporary, data.split(split))) if split else ()
        record = ReleaseQuality(
            data=data.name,
            classes=classes,
            counts={name: _count_classes(part, len(classes)) for name, part in data.splits.items() if len(part)},
            size=tuple(data.split(split).images.shape[1:]) if split else (),
            split="test",
            precisions=dict(precisions),
            chosen=chosen,
            mistakes=mistakes,
            sheet_split=split,
            sheet=sheet,
        )
        (temporary / RECORD).write_bytes(encode_record(record))
    return KeptEvaluation(folder, record)


def read_evaluation(folder: Path) -> KeptEvaluation | None:
    """None where this machine has none; RecordError for one that cannot be read."""
    if not (folder / RECORD).is_file():
        return None
    return KeptEvaluation(folder, read_record(folder / RECORD, ReleaseQuality, FORMAT))


def _write_mistakes(folder: Path, data: "DataSet", quality: Quality) -> Iterator[str]:
    images = data.split("test").images
    for number, mistake in enumerate(quality.mistakes):
        yield _write_image(folder, f"mistake-{number:02d}", images[mistake.position : mistake.position + 1][0])


def _write_sheet(folder: Path, part: "Split") -> Iterator[SheetImage]:
    """The first images of each of the first classes, in the order of the classes."""
    for label, positions in _first_of_each(part):
        for number, position in enumerate(positions):
            name = f"sheet-{'none' if label is None else label}-{number}"
            yield SheetImage(label, _write_image(folder, name, part.images[position : position + 1][0]))


def _first_of_each(part: "Split") -> Iterator[tuple[int | None, list[int]]]:
    if part.labels.ndim == 2:
        for label in range(min(part.labels.shape[1], SHEET_CLASSES)):
            yield label, np.flatnonzero(part.labels[:, label])[:SHEET_EACH].tolist()
        return
    known = [int(label) for label in np.unique(part.labels)][:SHEET_CLASSES]
    if known == [-1] or not known:
        yield None, list(range(min(len(part), SHEET_CLASSES)))
        return
    for label in known:
        yield label, np.flatnonzero(part.labels == label)[:SHEET_EACH].tolist()


def _count_classes(part: "Split", classes: int) -> tuple[int, ...]:
    counts = part.labels.sum(axis=0) if part.labels.ndim == 2 else np.bincount(part.labels[part.labels >= 0])
    return tuple(int(count) for count in np.pad(counts, (0, max(0, classes - len(counts)))))


def _write_image(folder: Path, name: str, pixels: Array) -> str:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    content = BytesIO()
    if max(image.size) <= SMALL:
        file = f"{name}.png"
        image.save(content, "PNG")
    else:
        file = f"{name}.jpg"
        image.save(content, "JPEG", quality=85)
    (folder / file).write_bytes(content.getvalue())
    return file
