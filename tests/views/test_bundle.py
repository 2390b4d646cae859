"""A release's tables call its accuracy what it is."""

from pathlib import Path

import msgspec
import pytest

from tests.bundles import LABELS, null_bundle
from toolchain.cli.pages import built_page
from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Accuracy, ParityRecord, StepRecord
from toolchain.records.output import OutputKind
from toolchain.records.saturation import Saturation
from toolchain.report.content import ReportContent
from toolchain.report.writer import summary
from toolchain.views.bundle import manifest_page, saturation_cell

PARITY = ParityRecord("torch fp32", "null fp32", 4, 0.0, 0.0, 0.0, 1.0, 0, 1e-3, 0.99, True)
STEPS = (StepRecord("model", {}, 1, 1, 4, 0.9, 0.0, (), measured_speedup=1.0, accuracy=0.9, verdict="original"),)


@pytest.fixture
def several(tmp_path: Path) -> Bundle:
    accuracy = Accuracy("test", 12, 0.91, 0.9, 0.9, "F1", 0.95)
    output = OutputKind("sigmoid", False)
    return null_bundle(tmp_path / "b", output=output, accuracy=accuracy, parity=(PARITY,), steps=STEPS)


def test_no_table_calls_the_f1_of_several_labels_top_1(several: Bundle) -> None:
    assert len(LABELS) > 1
    manifest, page = several.manifest, built_page(several, Path("report.html"))
    for text in (page, manifest_page(manifest), summary(ReportContent("0" * 64, manifest, None, ()))):
        assert "top-1" not in text
        assert "F1" in text
    assert "F1 90.00% of 12 test images (91.00% in fp32; mAP 95.00% in fp32)" in manifest_page(manifest)


def test_one_logit_and_classes_keep_top_1(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b", parity=(PARITY,), steps=STEPS)
    assert "same top-1" in manifest_page(bundle.manifest)
    page = built_page(bundle, Path("report.html"))
    assert "test top-1" in page
    assert "F1" not in page


def test_a_build_fits_on_a_screen_and_names_where_the_rest_is(tmp_path: Path) -> None:
    steps = (*STEPS, *(StepRecord(f"s{at}", {}, 1, 1, 4, 0.9, 1.0, measured_speedup=1.5) for at in range(6)))
    page = built_page(null_bundle(tmp_path / "b", parity=(PARITY,) * 4, steps=steps, int8_ms=1), Path("r/report.html"))
    assert len(page.splitlines()) <= 30
    assert "step 6, s5: 1.50 times the original's speed" in page
    assert "parity: 4 comparisons of outputs agree" in page
    assert page.endswith("report: r/report.html")


def test_int8_that_was_refused_is_not_called_exact(tmp_path: Path) -> None:
    manifest = null_bundle(tmp_path / "b", int8_ms=1).manifest
    fp32, int8 = manifest.candidates
    exact = msgspec.structs.replace(int8, saturation=Saturation(2, 0))
    refused = msgspec.structs.replace(exact, verdict="refused: answers otherwise than the model, see parity")
    pages = [saturation_cell(msgspec.structs.replace(manifest, candidates=(fp32, each))) for each in (exact, refused)]
    assert pages[0].startswith("every CPU: its sums cannot exceed 16 bits")
    assert pages[1] == "no CPU: it was refused where it was built, see its verdict"
