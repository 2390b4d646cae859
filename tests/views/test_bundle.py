"""A release's tables call its accuracy what it is."""

from pathlib import Path

import pytest

from tests.bundles import LABELS, null_bundle
from toolchain.cli.pages import build_page
from toolchain.records.manifest import Accuracy, Manifest, ParityRecord, StepRecord
from toolchain.records.output import OutputKind
from toolchain.report.content import ReportContent
from toolchain.report.writer import summary
from toolchain.views.bundle import manifest_page

PARITY = ParityRecord("torch fp32", "null fp32", 4, 0.0, 0.0, 0.0, 1.0, 0, 1e-3, 0.99, True)
STEPS = (StepRecord("model", {}, 1, 1, 4, 0.9, 0.0, (), measured_speedup=1.0, accuracy=0.9, verdict="original"),)


@pytest.fixture
def several(tmp_path: Path) -> Manifest:
    accuracy = Accuracy("test", 12, 0.91, 0.9, 0.9, "F1", 0.95)
    output = OutputKind("sigmoid", False)
    bundle = null_bundle(tmp_path / "b", output=output, accuracy=accuracy, parity=(PARITY,), steps=STEPS)
    return bundle.manifest


def test_no_table_calls_the_f1_of_several_labels_top_1(several: Manifest) -> None:
    assert len(LABELS) > 1
    for text in (build_page(several), manifest_page(several), summary(ReportContent("0" * 64, several, None, ()))):
        assert "top-1" not in text
        assert "F1" in text
    assert "F1 90.00% of 12 test images (91.00% in fp32; mAP 95.00% in fp32)" in manifest_page(several)


def test_one_logit_and_classes_keep_top_1(tmp_path: Path) -> None:
    manifest = null_bundle(tmp_path / "b", parity=(PARITY,), steps=STEPS).manifest
    assert "test top-1" in build_page(manifest)
    assert "same top-1" in build_page(manifest)
    assert "F1" not in build_page(manifest)
