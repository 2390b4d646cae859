"""Images without labels: drawn ones, the same for ever, and those of a data set."""

import numpy as np

from toolchain.data import DataSet, Split
from toolchain.data.unlabelled import DRAWN_COUNT, draw_images, strip_labels
from toolchain.records.tensors import Preprocessing


def test_drawn_images_are_always_the_same_and_differ_from_each_other() -> None:
    for shape in (Preprocessing(20, 30), Preprocessing(5, 4, 1)):
        data = draw_images(shape)
        assert data.sha256 == draw_images(shape).sha256
        images = np.asarray(data.split("validate").images[:])
        assert images.shape == (DRAWN_COUNT, *shape.shape)
        assert len(np.unique(images.reshape(DRAWN_COUNT, -1), axis=0)) == DRAWN_COUNT
        assert images.mean(axis=(1, 2, 3)).std() > 10  # some are dark, some are light
    assert draw_images(Preprocessing(20, 30)).sha256 != data.sha256


def test_nothing_can_be_calibrated_or_tested_on_drawn_images() -> None:
    data = draw_images(Preprocessing(5, 4))
    assert data.classes == ()
    assert [len(data.split(name)) for name in ("train", "certify", "test")] == [0, 0, 0]


def test_a_data_set_without_its_labels_keeps_what_is_calibrated_and_compared_on() -> None:
    images = np.zeros((6, 2, 2, 3), np.uint8)
    split = Split(images, np.arange(6), np.arange(6) + 10)
    bare = strip_labels(
        DataSet("d", ("a", "b"), "s", "0", dict.fromkeys(("train", "validate", "certify", "test"), split))
    )
    assert (bare.name, bare.classes) == ("d", ())
    assert {name: len(each) for name, each in bare.splits.items()} == {
        "train": 6,
        "validate": 6,
        "certify": 0,
        "test": 0,
    }
    assert set(bare.split("train").labels) == {-1}
    assert bare.split("train").indices.tolist() == [10, 11, 12, 13, 14, 15]
