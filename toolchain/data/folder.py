"""The user's own images: one folder per class, named after it.

    PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg (or val; if both exist, val is the validation split)
    PATH/CLASS/*.jpg       a fifth becomes the test split; all indices count the files of PATH, sorted by class and name

Classes are numbered in the order of their sorted names, as in torchvision's ImageFolder. Each load reads every byte for
the digest that identifies the data (about one second per gigabyte).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from toolchain.data.dataset import DataSet, DataSource, Split
from toolchain.data.photos import Photos, require_preprocessing
from toolchain.data.splits import shuffle_indices, split_indices
from toolchain.errors import DataError
from toolchain.progress import track
from toolchain.records.tensors import Preprocessing

SOURCES: dict[str, DataSource] = {}
SUFFIXES = (".jpg", ".jpeg", ".png")
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
TEST_SHARE = 5


@dataclass(frozen=True)
class ImageList:
    """Files of one source folder, sorted by class and name, with the class index of each."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def split(self, places: Sequence[int], preprocessing: Preprocessing) -> Split:
        paths, labels = tuple(self.paths[place] for place in places), [self.labels[place] for place in places]
        return Split(Photos(paths, preprocessing), np.array(labels, np.int64), np.array(places, np.int64))


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    preprocessing = require_preprocessing(preprocessing, "folder")
    if not folder.is_dir():
        raise DataError(
            f"{folder}: no such folder; [data] path must contain one folder per class, or train/ and test/ with them"
        )
    inner = folder / "train" if (folder / "train").is_dir() else folder
    classes = _class_names(inner)
    digest = sha256()
    splits = (_read_splits if inner != folder else _cut_splits)(folder, classes, preprocessing)
    paths = sorted({path for split in splits.values() for path in _split_paths(split)})
    for path in track(paths, f"checking {folder.name}"):
        digest.update(f"{path.relative_to(folder)} {_digest(path)}\n".encode())
    return DataSet("folder", classes, str(folder), digest.hexdigest(), splits)


def list_images(folder: Path, classes: Sequence[str]) -> ImageList:
    """The images of `folder`; DataError names an empty or unknown class folder, or a file that is not an image."""
    unknown = set(_class_names(folder)) - set(classes)
    if unknown:
        raise DataError(f"{folder / min(unknown)}: no such class in train/, which has {_first_names(classes)}")
    labelled = [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in _image_paths(folder / name)
    ]
    return ImageList(tuple(path for path, _ in labelled), tuple(label for _, label in labelled))


def _read_splits(folder: Path, classes: tuple[str, ...], preprocessing: Preprocessing) -> dict[str, Split]:
    held = [folder / name for name in ("test", "val") if (folder / name).is_dir()]
    if not held:
        raise DataError(
            f"{folder}: has train/, but neither test/ nor val/ next to it; accuracy needs images of its own"
        )
    train, test = list_images(folder / "train", classes), list_images(held[0], classes)
    places = split_indices(shuffle_indices(len(train.paths), 0))
    if len(held) == 2:
        places["train"] = sorted(places["train"] + places.pop("validate"))
    splits = {name: train.split(chosen, preprocessing) for name, chosen in places.items()}
    if len(held) == 2:
        validate = list_images(held[1], classes)
        splits["validate"] = validate.split(range(len(validate.paths)), preprocessing)
    return splits | {"test": test.split(range(len(test.paths)), preprocessing)}


def _cut_splits(folder: Path, classes: tuple[str, ...], preprocessing: Preprocessing) -> dict[str, Split]:
    everything = list_images(folder, classes)
    order = shuffle_indices(len(everything.paths), 0)
    count = len(order) // TEST_SHARE
    places = {"test": sorted(order[:count]), **split_indices(order[count:])}
    return {name: everything.split(chosen, preprocessing) for name, chosen in places.items()}


def _class_names(folder: Path) -> tuple[str, ...]:
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    stray = next((path for path in entries if path.is_file() and path.suffix.lower() in SUFFIXES), None)
    if stray is not None:
        raise DataError(f"{stray}: is not in a class folder; move it into {folder}/CLASS/")
    names = tuple(path.name for path in entries if path.is_dir())
    if not names:
        raise DataError(f"{folder}: contains no class folders; expected {folder}/CLASS/*.jpg or *.png")
    return names


def _image_paths(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for path in paths:
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            raise DataError(f"{path}: not an image; a class folder holds {', '.join(SUFFIXES)} files only; remove it")
    if not paths:
        raise DataError(f"{folder}: an empty class folder; put images into it, or remove it")
    return paths


def _digest(path: Path) -> str:
    """The digest of a file that at least starts like an image; DataError for any other."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    if not content.startswith(SIGNATURES):
        raise DataError(f"{path}: not a JPEG or PNG image (starts with {content[:8]!r}); replace or remove it")
    return sha256(content).hexdigest()


def _split_paths(split: Split) -> tuple[Path, ...]:
    assert isinstance(split.images, Photos)
    return split.images.paths


def _first_names(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
