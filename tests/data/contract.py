"""What every data set must hold to; a new one's test calls these two."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from toolchain.data.dataset import DataSet
from toolchain.data.loading import MODULES
from toolchain.data.provenance import write_provenance
from toolchain.records.storage import atomic_folder

PARTS = ("train", "validate", "certify", "test")


def check_room(name: str, room: ModuleType) -> None:
    """The module fills the Protocol, and its name leads to it."""
    assert MODULES[name] == room.__name__
    assert room.__doc__
    assert list(room.SOURCES) in ([], ["official"], ["mirror"], ["official", "mirror"])
    assert callable(room.open_dataset)


def check_data_set(data: DataSet, again: DataSet) -> None:
    """Parts, types, labels, indexing; `again` is the same data opened once more."""
    assert set(data.splits) == set(PARTS)
    assert len(data.sha256) == 64 and data.sha256 == again.sha256 and data.source
    assert len(set(data.classes)) > 1
    cut = [int(i) for name in ("train", "validate", "certify") for i in data.split(name).indices]
    assert len(set(cut)) == len(cut), "train, validate and certify overlap"
    for name in PARTS:
        part, same = data.split(name), again.split(name)
        assert len(part) == len(part.images) == part.images.shape[0] == len(part.labels) == len(part.indices)
        assert part.labels.dtype == part.indices.dtype == np.int64
        assert np.array_equal(part.labels, same.labels) and np.array_equal(part.indices, same.indices)
        assert not len(part) or (part.labels.min() >= 0 and part.labels.max() < len(data.classes))
        whole = part.images[:]
        assert whole.dtype == np.uint8 and whole.shape == part.images.shape and whole.ndim == 4
        if len(part):
            last = np.array([len(part) - 1, 0])
            assert np.array_equal(part.images[last], whole[last])
            assert np.array_equal(part.images[0], whole[0]) and np.array_equal(part.images[-1], whole[-1])
            assert np.array_equal(part.images[0:1], whole[0:1])


def kept(home: Path, name: str, unpack: Callable[[Path, Path], None], archives: Path) -> Path:
    """What fetch leaves behind, from archives that a test wrote."""
    folder = home / "data" / name
    with atomic_folder(folder) as made:
        unpack(archives, made)
        write_provenance(made, name, "official", {})
    return folder


def sha256_of(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
