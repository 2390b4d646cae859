"""A release's tables call its accuracy what it is."""

from pathlib import Path

import msgspec
import pytest

from tests.bundles import LABELS, null_bundle
from toolchain.cli.pages import build_page
from toolchain.records.manifest import Accuracy, Manifest, ParityRecord, StepRecord
from toolchain.records.output import OutputKind
from toolchain.records.saturation import Saturation
from toolchain.report.content import ReportContent
from toolchain.report.writer import summary
from toolchain.views.bundle import manifest_page, saturation_cell

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


def test_int8_that_was_refused_is_not_called_exact(tmp_path: Path) -> None:
    manifest = null_bundle(tmp_path / "b", int8_ms=1).manifest
    fp32, int8 = manifest.candidates
    exact = msgspec.structs.replace(int8, saturation=Saturation(2, 0))
    refused = msgspec.structs.replace(exact, verdict="refused: answers otherwise than the model, see parity")
    pages = [saturation_cell(msgspec.structs.replace(manifest, candidates=(fp32, each))) for each in (exact, refused)]
    assert pages[0].startswith("every CPU: its sums cannot exceed 16 bits")
    assert pages[1] == "no CPU: it was refused where it was built, see its verdict"
