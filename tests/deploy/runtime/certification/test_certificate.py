from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from deploy.runtime.certification.certificate import run_certify
from tests.bundles import null_bundle
from toolchain.records.bundle import CERTIFY, Bundle
from toolchain.records.certificate import FORMAT, Certificate
from toolchain.records.manifest import Needs
from toolchain.records.storage import decode_record, encode_record
from toolchain.views.certificate import certificate_page

SCENARIOS = ["SingleStream", "MultiStream", "Server", "Offline"]


def certify(bundle: Bundle) -> Certificate:
    return run_certify(bundle, 1, lambda _: None, seconds=0.2, began=0.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return null_bundle(tmp_path / "null.bundle")


def test_a_sound_bundle_is_certified(bundle: Bundle) -> None:
    certificate = certify(bundle)
    assert certificate.passed
    names = [check.name for check in certificate.checks]
    assert names == [
        *("needs", "preprocessing", "golden finite", "golden distance", "golden top-1", "accuracy", "throttling"),
    ]
    assert (certificate.images, certificate.accuracy, certificate.bundle) == (12, 1.0, bundle.digest)
    assert certificate.accuracy_low == pytest.approx(0.7575, abs=1e-4)
    assert (certificate.engine, certificate.precision) == ("null 1", "fp32")
    assert decode_record(encode_record(certificate), Certificate, "here", FORMAT) == certificate


def test_preprocessing_that_was_changed_fails(tmp_path: Path) -> None:
    certificate = certify(null_bundle(tmp_path / "b", preprocessing_sha256="0" * 64))
    (check,) = [check for check in certificate.checks if not check.passed]
    assert (check.name, check.expected) == ("preprocessing", "sha256 000000000000")


def test_a_device_that_lacks_what_is_needed_opens_no_engine(tmp_path: Path) -> None:
    certificate = certify(null_bundle(tmp_path / "b", needs=Needs(cpu_isa=("avx9",))))
    (check,) = certificate.checks
    assert not certificate.passed
    assert "lacks avx9, which the bundle needs" in check.found
    assert (certificate.engine, certificate.accuracy, certificate.images) == ("not opened", None, 0)


def test_a_bundle_without_labelled_pictures_says_so(bundle: Bundle) -> None:
    files = tuple(file for file in bundle.manifest.files if file.path != CERTIFY)
    unlabelled = Bundle(bundle.folder, replace(bundle.manifest, files=files), bundle.digest)
    said: list[str] = []
    certificate = run_certify(unlabelled, 1, said.append, seconds=0.2, began=0.0)
    assert certificate.passed
    assert (certificate.accuracy, certificate.accuracy_low, certificate.images) == (None, None, 0)
    assert "accuracy" not in [check.name for check in certificate.checks]  # neither passed nor failed
    assert said[0] == "accuracy: not known: the bundle has no labelled images, so only numerics are checked"
    assert "accuracy not known: the bundle has no labelled images" in certificate_page(certificate)


def test_accuracy_lost_on_the_way_fails(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b")
    np.savez(bundle.path(CERTIFY), images=np.zeros((12, 8, 8, 3), np.uint8), labels=np.arange(12) % 2)
    certificate = certify(bundle)
    check = certificate.checks[-2]
    assert not check.passed
    assert check.found == "6 of 12 right (50.00%)"
    assert check.expected == "at least 11: 12 on the build machine (100.00%) less 1"


def test_it_tells_how_fast_the_device_is_and_what_that_takes(tmp_path: Path) -> None:
    found = certify(null_bundle(tmp_path / "b", delay_ms=2))
    assert all(one.valid for one in found.scenarios)
    ran = {one.scenario: one for one in found.scenarios}
    assert {"SingleStream", "Offline"} <= set(ran) <= set(SCENARIOS)
    single, offline = ran["SingleStream"], ran["Offline"]
    assert single.percentiles_ms[0] is not None
    assert single.percentiles_ms[0] >= 2
    assert offline.throughput_per_s > 0
    assert found.peak_memory_bytes > 10 << 20
    assert found.cold_start_s is not None
    assert (found.joules_per_picture is None) == found.energy.startswith("not readable here")


def test_nothing_is_measured_of_a_bundle_that_answers_wrongly(tmp_path: Path) -> None:
    found = certify(null_bundle(tmp_path / "b", preprocessing_sha256="0" * 64))
    assert not found.passed
    assert found.scenarios == ()
