from pathlib import Path

import pytest

from tests.job.test_job import make_folder, read, recipe
from toolchain.job.data_lines import report_data
from toolchain.job.stage_cache import StageCache


def shown(place: Path, messages: list[str]) -> list[str]:
    job = read(place)
    messages.clear()
    report_data(job, StageCache(place.parent / "cache"))
    return messages


def test_a_build_says_what_it_sees_in_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    folder = make_folder(tmp_path, monkeypatch)
    lines = shown(recipe(folder, "[build]\nmax_accuracy_loss = 20.0\n"), messages)
    assert lines[1] == "  4 classes, 40 images: train 26, validate 3, certify 3, test 8"
    assert lines[2].startswith(
        "  there is no test part: a fifth of the images, drawn by a fixed rule, is the test split"
    )
    assert lines[3] == "  images a class: a 10, b 10, c 10, d 10"
    assert lines[4].startswith("  sizes ")
    assert "8x8x3 to the model; pixels (0 to 1): mean 0." in lines[4]
    assert [line[:60] for line in lines[5:]] == ["warning: the test images are taken from the folder that the "]


def test_what_makes_figures_worthless_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    folder = make_folder(tmp_path, monkeypatch)
    files = sorted((folder / "pictures").rglob("*.png"))
    for file in files[1:10]:  # one image under ten names, some of which fall into the test split
        file.write_bytes(files[0].read_bytes())
    step = "[[step]]\nfinetune = { epochs = 2, replace_head = true, batch_size = 16 }\n"
    warnings = [line for line in shown(recipe(folder, step), messages) if line.startswith("warning: ")]
    assert " of 8 test images are in another split too, byte for byte (the first: number " in warnings[0]
    assert warnings[1] == (
        "warning: max_accuracy_loss = 0.5 points is less than one of 8 test images (12 points): one lost image refuses "
        "a candidate; give more test images, or allow more"
    )
    assert warnings[2] == (
        "warning: step 1, finetune: 2 epochs of 26 images in batches of 16 are 4 updates of the weights; expected some "
        "hundred: more epochs, or a smaller batch"
    )
    assert len(warnings) == 3
