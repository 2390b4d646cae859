"""What every data set must satisfy; the test of a new one calls check_module and check_data_set."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from toolchain.data.dataset import DataSet
from toolchain.data.loading import MODULES
from toolchain.data.provenance import write_provenance
from toolchain.records.storage import atomic_folder

SPLITS = ("train", "validate", "certify", "test")


def check_module(name: str, module: ModuleType) -> None:
    """The module satisfies the Protocol, and the table lists it under its name."""
    assert MODULES[name] == module.__name__
    assert module.__doc__
    assert list(module.SOURCES) in ([], ["official"], ["mirror"], ["official", "mirror"])
    assert callable(module.open_dataset)


def check_data_set(data: DataSet, again: DataSet) -> None:
    """Splits, types, labels, indexing; `again` is the same data opened once more."""
    assert set(data.splits) == set(SPLITS)
    assert len(data.sha256) == 64 and data.sha256 == again.sha256 and data.source
    assert len(set(data.classes)) > 1
    cut = [int(i) for name in ("train", "validate", "certify") for i in data.split(name).indices]
    assert len(set(cut)) == len(cut), "train, validate and certify overlap"
    for name in SPLITS:
        split, same = data.split(name), again.split(name)
        assert len(split) == len(split.images) == split.images.shape[0] == len(split.labels) == len(split.indices)
        assert split.labels.dtype == split.indices.dtype == np.int64
        assert np.array_equal(split.labels, same.labels) and np.array_equal(split.indices, same.indices)
        assert not len(split) or (split.labels.min() >= 0 and split.labels.max() < len(data.classes))
        whole = split.images[:]
        assert whole.dtype == np.uint8 and whole.shape == split.images.shape and whole.ndim == 4
        if len(split):
            last = np.array([len(split) - 1, 0])
            assert np.array_equal(split.images[last], whole[last])
            assert np.array_equal(split.images[0], whole[0]) and np.array_equal(split.images[-1], whole[-1])
            assert np.array_equal(split.images[0:1], whole[0:1])


def unpack_as_fetched(home: Path, name: str, unpack: Callable[[Path, Path], None], archives: Path) -> Path:
    """The folder that fetch would write, from archives that a test wrote."""
    folder = home / "data" / name
    with atomic_folder(folder) as temporary:
        unpack(archives, temporary)
        write_provenance(temporary, name, "official", {})
    return folder


def sha256_of(path: Path) -> str:
    return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
