from pathlib import Path

import msgspec

from tests.bundles import null_bundle
from toolchain.records.manifest import Accuracy, Candidate, Manifest
from toolchain.report.release_changes import compare_releases, diff_recipes


def manifest(tmp_path: Path, **changes: object) -> Manifest:
    return msgspec.structs.replace(null_bundle(tmp_path / "null.bundle").manifest, **changes)


def test_equal_releases_differ_in_nothing(tmp_path: Path) -> None:
    before = manifest(tmp_path)
    assert compare_releases(before, msgspec.structs.replace(before, release="2")) == ()
    assert diff_recipes(before, before) == ""


def test_figures_come_with_their_difference_and_causes_without(tmp_path: Path) -> None:
    before = manifest(
        tmp_path,
        candidates=(Candidate("fp32", "null", (), 2_000_000, 0.91, 2.0),),
        accuracy=Accuracy("test", 100, 0.91, 0.91, 0.9),
        tools={"torch": "1", "onnx": "1"},
        recipe="a = 1\nb = 2\n",
    )
    now = msgspec.structs.replace(
        before,
        candidates=(Candidate("fp32", "null", (), 1_000_000, 0.9, 1.5),),
        accuracy=Accuracy("test", 100, 0.91, 0.9, 0.9),
        tools={"torch": "2", "onnx": "1"},
        labels=(*before.labels[:-1], "new"),
        preprocessing=msgspec.structs.replace(before.preprocessing, height=before.preprocessing.height + 1),
        recipe="a = 1\nb = 3\n",
        release="2",
    )
    rows = {row[0]: row[1:] for row in compare_releases(before, now)}
    assert rows["accuracy"] == ("91.00%", "90.00%", "-1.00 points")
    assert rows["p50 on the build machine, ms"] == ("2.000", "1.500", "-25.0 %")
    assert rows["file, MB"] == ("2.00", "1.00", "-50.0 %")
    assert rows["torch"] == ("1", "2", "")
    assert rows["labels"][2] == f"+new, -{before.labels[-1]}"
    assert set(rows) == {"accuracy", "p50 on the build machine, ms", "file, MB", "torch", "labels", "input, height"}
    assert diff_recipes(before, now).splitlines()[-2:] == ["-b = 2", "+b = 3"]


def test_labels_in_another_order_are_a_change(tmp_path: Path) -> None:
    before = manifest(tmp_path)
    now = msgspec.structs.replace(before, labels=before.labels[::-1])
    assert [(row[0], row[3]) for row in compare_releases(before, now)] == [("labels", "another order")]


def test_a_release_without_labels_has_an_accuracy_that_is_not_known(tmp_path: Path) -> None:
    before = manifest(tmp_path, accuracy=Accuracy("test", 100, 0.91, 0.91, 0.9))
    rows = {row[0]: row[1:] for row in compare_releases(before, msgspec.structs.replace(before, accuracy=None))}
    assert rows["accuracy"] == ("91.00%", "not known", "")
