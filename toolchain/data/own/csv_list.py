"""A CSV file that lists images and their labels, in UTF-8.

    path,label,split          the heading, in any order; without one: path, label and, if there is a third column, split
    cats/1.jpg,cat,train      paths are relative to the file; split: train, val or test
    both/7.jpg,cat;dog,test   several labels, or an empty cell for none: every image may then have any number

Without a split column a fifth of the images becomes the test split. Classes are numbered in the order of their sorted
names; where all are whole numbers, in the order of their values.
"""

import csv
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from toolchain.data.dataset import DataSet, DataSource, Labels
from toolchain.data.own.entries import composed
from toolchain.data.own.image_files import LabelledFiles, open_files
from toolchain.data.own.parts import part_of
from toolchain.data.photos import require_preprocessing
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing
from toolchain.text_files import read_text_file

SOURCES: dict[str, DataSource] = {}
COLUMNS = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img"),
    "label": ("label", "labels", "class", "classes", "class_name", "category", "target"),
    "split": ("split", "set", "subset", "partition"),
}
SEPARATOR = ";"
EXPECTED = "columns path,label and, if you like, split (train, val or test)"
MAX_NAMED = 5


class ListedImage(NamedTuple):
    """A row. line: in the file, from 1; labels: names, sorted."""

    line: int
    path: str
    labels: tuple[str, ...]
    part: str


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    """`folder` is the path of the file."""
    preprocessing = require_preprocessing(preprocessing, "csv")
    rows = _read_rows(folder)
    classes = _sort_classes({label for row in rows for label in row.labels})
    if len(classes) < 2:
        raise DataError(f"{folder}: {len(classes)} class; expected two or more")
    parts = _group_rows(rows, folder)
    is_multi = any(len(row.labels) != 1 for row in rows)
    paths = _find_files(rows, folder)
    return open_files(
        "csv",
        folder,
        classes,
        {
            part: LabelledFiles(
                tuple(paths[row.path] for row in rows),
                tuple(composed(row.path) for row in rows),
                _labels_of(rows, classes, is_multi),
                preprocessing,
            )
            for part, rows in parts.items()
        },
    )


def _read_rows(path: Path) -> list[ListedImage]:
    try:
        text = read_text_file(path, DataError)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); [data] path must name a CSV file") from error
    try:
        rows = list(_iterate_rows(text, path))
    except csv.Error as error:
        raise DataError(f"{path}: not a CSV file ({error}); expected {EXPECTED}") from error
    if not rows:
        raise DataError(f"{path}: lists no images; expected {EXPECTED}")
    return rows


def _iterate_rows(text: str, path: Path) -> Iterator[ListedImage]:
    reader = csv.reader(text.splitlines(keepends=True), skipinitialspace=True)
    columns: Mapping[str, int] | None = None
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if columns is None:
            columns = _heading(cells)
            if columns:
                continue
            columns = dict(zip(COLUMNS, range(len(cells)), strict=False))
        if len(cells) <= max(columns.values()) or "label" not in columns:
            raise DataError(f"{path}: line {reader.line_num}: {cells}; expected {EXPECTED}, separated by commas")
        labels = {composed(label.strip()) for label in cells[columns["label"]].split(SEPARATOR)} - {""}
        split = cells[columns["split"]].strip() if "split" in columns else "train"
        if (part := part_of(split)) is None:
            raise DataError(f"{path}: line {reader.line_num}: split '{split}'; expected train, val or test")
        yield ListedImage(reader.line_num, cells[columns["path"]].strip(), tuple(sorted(labels)), part)


def _heading(cells: Sequence[str]) -> dict[str, int] | None:
    """Where each column is; None where the row is no heading but an image."""
    names = [cell.strip().casefold() for cell in cells]
    places = {column: place for column, known in COLUMNS.items() for place, name in enumerate(names) if name in known}
    return places if "path" in places and "label" in places else None


def _sort_classes(names: set[str]) -> tuple[str, ...]:
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _group_rows(rows: Sequence[ListedImage], path: Path) -> dict[str, list[ListedImage]]:
    parts = {part: [row for row in rows if row.part == part] for part in ("train", "val", "test")}
    parts = {part: listed for part, listed in parts.items() if listed}
    if "train" not in parts and len(parts) > 1:
        raise DataError(f"{path}: has no image of split train; expected some to train and calibrate on")
    return parts


def _labels_of(rows: Sequence[ListedImage], classes: Sequence[str], is_multi: bool) -> Labels:
    number = {name: place for place, name in enumerate(classes)}
    if not is_multi:
        return np.array([number[row.labels[0]] for row in rows], np.int64)
    labels = np.zeros((len(rows), len(classes)), np.int64)
    for place, row in enumerate(rows):
        labels[place, [number[label] for label in row.labels]] = 1
    return labels


def _find_files(rows: Sequence[ListedImage], path: Path) -> dict[str, Path]:
    """The file of each row; DataError names the rows without one, and those that name the same file again."""
    files: dict[str, Path] = {}
    missing: list[ListedImage] = []
    again: list[ListedImage] = []
    for row in rows:
        (again if row.path in files else missing).append(row)
        if row.path not in files and (file := _find_file(path.parent, row.path)) is not None:
            files[row.path] = file
            missing.pop()
    if again:
        raise DataError(
            f"{path}: {_name_rows(again, 'the same image again')}; expected a row for each image, "
            "several labels in one cell: cat;dog"
        )
    if missing:
        raise DataError(f"{path}: {_name_rows(missing, 'no such file')}; paths are relative to {path.parent}")
    return files


def _find_file(folder: Path, name: str) -> Path | None:
    """Also where accents are written otherwise than in the file's name; Windows' backslashes are taken as slashes."""
    names = (name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD")), name.replace("\\", "/"))
    return next((folder / other for other in names if (folder / other).is_file()), None)


def _name_rows(rows: Sequence[ListedImage], what: str) -> str:
    named = ", ".join(f"line {row.line} '{row.path}'" for row in rows[:MAX_NAMED])
    more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
    return f"{what} in {len(rows)} rows: {named}{more}"
