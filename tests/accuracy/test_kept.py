import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.report.seen import CLASSES, draw_data, keep_drawn
from toolchain.accuracy.kept import RECORD, SHEET_EACH, evaluation_folder, keep_evaluation, read_evaluation
from toolchain.data.unlabelled import strip_labels
from toolchain.errors import RecordError
from toolchain.records.output import OutputKind


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    kept = keep_drawn(tmp_path, "b" * 64)
    again = read_evaluation(evaluation_folder(tmp_path, "b" * 64))
    assert again == kept
    assert kept.record.counts["train"] == (12,) * len(CLASSES)
    assert read_evaluation(tmp_path / "elsewhere") is None


def test_a_mistakes_image_is_that_of_the_test_split(tmp_path: Path) -> None:
    data = draw_data()
    kept = keep_drawn(tmp_path, "b" * 64, data)
    mistakes = kept.record.precisions["int8"].mistakes
    assert len(kept.record.mistakes) == len(mistakes) > 0
    for mistake, file in zip(mistakes, kept.record.mistakes, strict=True):
        with Image.open(io.BytesIO(kept.read_image(file))) as image:
            assert np.array_equal(np.asarray(image), data.split("test").images[mistake.position])


def test_the_contact_sheet_has_images_of_each_class(tmp_path: Path) -> None:
    labels = [image.label for image in keep_drawn(tmp_path, "b" * 64).record.sheet]
    assert labels == [label for label in range(len(CLASSES)) for _ in range(SHEET_EACH)]


def test_large_images_are_kept_small(tmp_path: Path) -> None:
    kept = keep_drawn(tmp_path, "b" * 64, draw_data(side=300))
    with Image.open(io.BytesIO(kept.read_image(kept.record.sheet[0].file))) as image:
        assert (image.format, image.size) == ("JPEG", (128, 128))


def test_one_channel_several_labels_and_none_at_all_are_kept_too(tmp_path: Path) -> None:
    data = draw_data()
    grey = {name: replace(split, images=split.images[..., :1]) for name, split in data.splits.items()}
    assert keep_drawn(tmp_path, "1" * 64, replace(data, splits=grey)).record.size == (8, 8, 1)
    several = keep_drawn(tmp_path, "2" * 64, draw_data(multilabel=True), OutputKind("sigmoid"))
    assert several.record.precisions["int8"].confusion == ()
    bare = keep_evaluation(tmp_path / "3", strip_labels(data), ("a", "b"), {}, "fp32")
    assert (bare.record.mistakes, {image.label for image in bare.record.sheet}) == ((), {None})


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / RECORD).write_text('{"format": 1}')
    with pytest.raises(RecordError, match=RECORD):
        read_evaluation(tmp_path)
