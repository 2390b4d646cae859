"""Fashion-MNIST (Xiao et al. 2017): 60,000 + 10,000 grey images of 28x28 pixels in ten classes; MIT licence.

official: gzipped idx files (LeCun's format: a big-endian header, then bytes). mirror: the same files, recompressed,
in Debian's package dataset-fashion-mnist.
"""

from pathlib import Path

import numpy as np

from toolchain.data.arrays import LabelledImages, open_arrays, write_arrays
from toolchain.data.dataset import DataSet, DataSource
from toolchain.data.downloads import Downloads, RemoteFile
from toolchain.data.own.idx import read_idx
from toolchain.data.packages import DebianFiles
from toolchain.records.tensors import Preprocessing

CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
OFFICIAL = {
    "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
MIRROR = {
    "train-images-idx3-ubyte.gz": "sha256:b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "sha256:0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "sha256:cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "sha256:8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
HOST = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"


def open_dataset(folder: Path, preprocessing: Preprocessing | None) -> DataSet:
    return open_arrays("fashion-mnist", CLASSES, folder, preprocessing)


def unpack(archives: Path, into: Path) -> None:
    write_arrays(into, CLASSES, _read_pair(archives, "train"), _read_pair(archives, "t10k"))


def _read_pair(archives: Path, stem: str) -> LabelledImages:
    images = read_idx(archives / f"{stem}-images-idx3-ubyte.gz", 3)
    labels = read_idx(archives / f"{stem}-labels-idx1-ubyte.gz", 1)
    return LabelledImages(images[:, :, :, None], labels.astype(np.int64))


SOURCES = {
    "official": DataSource(
        Downloads(tuple(RemoteFile(f"{HOST}/{name}", digest) for name, digest in OFFICIAL.items())), unpack
    ),
    "mirror": DataSource(DebianFiles("dataset-fashion-mnist", "/usr/share/datasets/fashion-mnist", MIRROR), unpack),
}
