"""A certificate's sentences agree with its checks and figures."""

from pathlib import Path

import msgspec
import pytest

from tests.records.test_old_records import OLD
from toolchain.records import certificate as record
from toolchain.records.certificate import Certificate, Check, ScenarioSummary
from toolchain.records.storage import read_record
from toolchain.views.certificate import certificate_page


@pytest.fixture
def sound() -> Certificate:
    return read_record(Path(OLD / "certificate-1.json"), Certificate, record.FORMAT)


def test_a_certificate_that_passed_says_what_serves_and_how_accurate_it_is(sound: Certificate) -> None:
    page = certificate_page(sound)
    assert f"serves {sound.precision}, chosen by the build" in page
    assert "top-1 100.00% of 12 held-out images" in page


def test_a_certificate_that_failed_does_not_say_that_anything_serves(sound: Certificate) -> None:
    lost = Check("accuracy", False, "6 of 12 right (50.00%)", "at least 11")
    page = certificate_page(msgspec.structs.replace(sound, checks=(*sound.checks, lost)))
    assert f"does not serve: accuracy failed for {sound.precision}" in page
    assert f"serves {sound.precision}" not in page


def test_labels_that_do_not_exclude_each_other_have_f1_and_map(sound: Certificate) -> None:
    several = msgspec.structs.replace(sound, measure="F1", accuracy=0.9, mean_average_precision=0.95)
    assert "F1 90.00%, mAP 95.00% of 12 held-out images" in certificate_page(several)


@pytest.mark.parametrize(
    ("valid", "note", "words"),
    [
        (True, "", "  valid"),
        (False, "too few", "not valid: too few"),
        (False, "", "not valid: LoadGen gives no reason"),
    ],
)
def test_a_run_is_called_valid_only_where_it_is(sound: Certificate, valid: bool, note: str, words: str) -> None:
    run = ScenarioSummary("Offline", 1, 1.0, (None, None, None), 10.0, valid, note)
    assert words in certificate_page(msgspec.structs.replace(sound, scenarios=(run,)))
