"""The user's own images: one folder per class, named after it.

    PATH/train/CLASS/* and PATH/test/CLASS/*   (or val; if both exist, val is the validation split)
    PATH/CLASS/*           a fifth becomes the test split; all indices count the files of PATH, sorted by class and name

Classes are numbered in the order of their sorted names, as in torchvision's ImageFolder. What a file is, its first
bytes say, not its name.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from toolchain.data.dataset import DataSet, DataSource
from toolchain.data.own.entries import FolderReader, composed
from toolchain.data.own.image_files import LabelledFiles, open_files
from toolchain.data.own.parts import part_of
from toolchain.data.photos import require_preprocessing
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

SOURCES: dict[str, DataSource] = {}
# Only to say of a file outside every class folder what is wrong with its place.
SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_NAMED = 5
ClassFolders = Mapping[str, Sequence[Path]]  # two folders may bear one name: composed, and decomposed by macOS
logger = logging.getLogger(__name__)


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    preprocessing = require_preprocessing(preprocessing, "folder")
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; [data] path must contain one folder per class, or train/ and test/ with them"
        )
    reader = FolderReader()
    found = {name: _class_folders(part, reader) for name, part in _find_parts(folder, reader).items()}
    classes = tuple(found["train"] if "train" in found else next(iter(found.values())))
    if len(classes) < 2:
        raise DataError(f"{folder}: a class folder alone, {classes[0]}/; expected two or more, one for each class")
    parts = {
        name: _list_images(folder, classes, folders, reader, preprocessing, name) for name, folders in found.items()
    }
    if line := reader.describe_skipped():
        logger.info(f"{folder.name}: {line}")
    return open_files("folder", folder, classes, parts)


def _find_parts(folder: Path, reader: FolderReader) -> dict[str, Path]:
    """The folders of train, val and test; `folder` itself as train where it has class folders."""
    folders = [path for path in reader.list_entries(folder) if path.is_dir()]
    parts: dict[str, Path] = {}
    for path in folders:
        if name := part_of(path.name):
            if name in parts:
                raise DataError(f"{folder}: {parts[name].name}/ and {path.name}/ mean the same; keep one of them")
            parts[name] = path
    if "train" not in parts:
        others = [path for path in folders if path not in parts.values()]
        if others or not parts:
            return {"train": folder}
        if len(parts) > 1:
            raise DataError(f"{folder}: has {'/ and '.join(parts)}/, but no train/; rename the one to train on")
        return parts
    if len(parts) == 1:
        raise DataError(
            f"{folder}: has train/, but neither test/ nor val/ next to it; accuracy needs images of its own"
        )
    return parts


def _class_folders(folder: Path, reader: FolderReader) -> ClassFolders:
    """The class folders of `folder` by name, sorted."""
    entries = reader.list_entries(folder)
    stray = [path for path in entries if path.is_file() and path.suffix.lower() in SUFFIXES]
    if stray:
        more = f" (and {len(stray) - 1} more)" if len(stray) > 1 else ""
        raise DataError(f"{stray[0]}: is not in a class folder{more}; move it into {folder}/CLASS/")
    classes: dict[str, list[Path]] = {}
    for path in entries:
        if path.is_dir():
            classes.setdefault(composed(path.name), []).append(path)
    if not classes:
        raise DataError(f"{folder}: contains no class folders; expected {folder}/CLASS/*.jpg or *.png")
    return classes


def _list_images(
    root: Path,
    classes: Sequence[str],
    folders: ClassFolders,
    reader: FolderReader,
    preprocessing: Preprocessing,
    part: str,
) -> LabelledFiles:
    """The files of one part; DataError names classes that train/ has not, and those of train/ that are empty."""
    if unknown := sorted(set(folders) - set(classes)):
        raise DataError(f"{folders[unknown[0]][0]}: no such class in train/, which has {_first_names(classes)}")
    listed = {
        name: sorted((path for folder in folders.get(name, ()) for path in reader.list_entries(folder)), key=_sort_key)
        for name in classes
    }
    if empty := [folders[name][0] for name, paths in listed.items() if not paths and part == "train"]:
        more = f" (and {len(empty) - 1} more)" if len(empty) > 1 else ""
        raise DataError(f"{empty[0]}: an empty class folder{more}; put images into it, or remove it")
    paths = tuple(path for paths in listed.values() for path in paths)
    labels = np.array([label for label, name in enumerate(classes) for _ in listed[name]], np.int64)
    return LabelledFiles(paths, tuple(composed(str(path.relative_to(root))) for path in paths), labels, preprocessing)


def _sort_key(path: Path) -> str:
    return composed(path.name)


def _first_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more
