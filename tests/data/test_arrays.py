"""Sets of arrays: written and read back memory-mapped, resized when needed, and any changed byte is reported."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.runtime.preprocessing import fit_array
from toolchain.data.arrays import LabelledImages, ResizedImages, check_arrays, open_arrays, write_arrays
from toolchain.data.dataset import DataSet
from toolchain.data.provenance import verify_provenance, write_provenance
from toolchain.errors import DataError
from toolchain.records.storage import atomic_folder
from toolchain.records.tensors import Preprocessing

CLASSES = ("cat", "dog", "frog")


def arrays(count: int, channels: int = 3) -> LabelledImages:
    random = np.random.default_rng(count)
    return LabelledImages(random.integers(0, 256, (count, 8, 8, channels), np.uint8), random.integers(0, 3, count))


def write_set(folder: Path, preprocessing: Preprocessing | None = None, channels: int = 3) -> DataSet:
    with atomic_folder(folder) as temporary:
        write_arrays(temporary, CLASSES, arrays(60, channels), arrays(9, channels))
        write_provenance(temporary, "cifar10", "mirror", {})
    return open_arrays("cifar10", CLASSES, folder, preprocessing)


def test_indices_point_into_the_source(tmp_path: Path) -> None:
    data, source = write_set(tmp_path / "set"), arrays(60)
    for name, count in (("train", 48), ("validate", 6), ("certify", 6)):
        split = data.split(name)
        assert len(split) == count
        assert np.array_equal(split.images[:], source.images[split.indices])
        assert np.array_equal(split.labels, source.labels[split.indices])
    assert np.array_equal(data.split("test").images[:], arrays(9).images)


def test_images_of_the_right_size_are_plain_arrays_that_torch_accepts_and_the_file_never_changes(
    tmp_path: Path,
) -> None:
    images = write_set(tmp_path / "set", Preprocessing(8, 8)).split("train").images
    assert type(images) is np.ndarray
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.from_numpy(images)[0] = 0
    assert np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect").shape == (48, 16, 16, 3)
    verify_provenance(tmp_path / "set", "cifar10")


@pytest.mark.parametrize("wanted", [Preprocessing(12, 10), Preprocessing(8, 8, 1), Preprocessing(8, 8, resize=9)])
def test_images_of_another_size_are_resized_when_indexed(tmp_path: Path, wanted: Preprocessing) -> None:
    plain = write_set(tmp_path / "set").split("test").images
    images = write_set(tmp_path / "set", wanted).split("test").images
    assert isinstance(images, ResizedImages) and images.shape == (9, *wanted.shape)
    assert np.array_equal(images[3], fit_array(plain[3], wanted))
    assert np.array_equal(images[[3, 1]][1], images[1])
    assert images[np.zeros(9, bool)].shape == (0, *wanted.shape)


def test_grey_images_fit_a_model_for_colour(tmp_path: Path) -> None:
    images = write_set(tmp_path / "set", Preprocessing(8, 8), channels=1).split("test").images
    assert np.array_equal(images[:], arrays(9, 1).images.repeat(3, axis=3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            LabelledImages(arrays(5).images, np.array([0, 1, 2, 3, -1])),
            "train: label 3 at index 3 is out of range; expected 0 ",
        ),
        (
            LabelledImages(arrays(5).images, np.zeros(4, np.int64)),
            r"train: 5 images, but labels \[4\]; expected one per image",
        ),
        (
            LabelledImages(arrays(5).images[..., :2], arrays(5).labels),
            r"train: expected uint8 .* got uint8 \[5, 8, 8, 2\]",
        ),
        (LabelledImages(arrays(5).images[:0], arrays(5).labels[:0]), r"got uint8 \[0, 8, 8, 3\]"),
    ],
)
def test_images_and_labels_that_do_not_match_are_refused(wrong: LabelledImages, message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_arrays(wrong, CLASSES, "train")


def test_a_changed_byte_a_missing_file_and_a_broken_record_are_named(tmp_path: Path) -> None:
    write_set(folder := tmp_path / "set")
    pixels = folder / "train_images.npy"
    content = bytearray(pixels.read_bytes())
    content[-1] ^= 1
    pixels.write_bytes(content)
    with pytest.raises(DataError, match=f"{pixels}: missing, or changed .* toolchain data fetch cifar10"):
        open_arrays("cifar10", CLASSES, folder, None)
    pixels.unlink()
    with pytest.raises(DataError, match=f"{pixels}: missing, or changed"):
        open_arrays("cifar10", CLASSES, folder, None)
    (folder / "source.json").write_text("{")
    with pytest.raises(
        DataError, match=r"source.json: not a Provenance in JSON: .*; fetch it again: toolchain data fetch ci"
    ):
        open_arrays("cifar10", CLASSES, folder, None)
