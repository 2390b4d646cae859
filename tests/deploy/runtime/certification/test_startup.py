from errno import ENOSPC
from os import strerror
from pathlib import Path

import pytest
from msgspec.structs import replace

from deploy.runtime.certification.startup import (
    CertificationOptions,
    CertificationPolicy,
    CertifiedEngines,
    open_certified_engines,
)
from deploy.runtime.device.signing import KEY
from deploy.runtime.device.state import chosen_precision
from deploy.runtime.engines import Settings
from tests.bundles import null_bundle
from toolchain.records.bundle import Bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return null_bundle(tmp_path / "b", delay_ms=4, int8_ms=1, choose="device")


def start(
    bundle: Bundle, state: Path | None, policy: CertificationPolicy = "first"
) -> tuple[CertifiedEngines, list[str]]:
    said: list[str] = []
    return open_certified_engines(
        bundle, Settings(1), CertificationOptions(policy, state, seconds=0.1), said.append, 0.0
    ), said


def test_the_certificate_is_made_once_and_kept_with_the_devices_choice(bundle: Bundle, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    first, _ = start(bundle, state)
    second, said = start(bundle, state)
    assert first.certificate is not None
    assert second.certificate is not None
    assert [check for check in first.certificate.checks if not check.passed] == []  # one that failed is not kept
    assert second.certificate.fingerprint == first.certificate.fingerprint
    assert second.certificate == first.certificate
    assert said == [f"certificate of {first.certificate.issued_at} still holds: same bundle, device and engine"]
    assert first.precision == second.precision == chosen_precision(bundle, 1, state) == "int8"
    assert {check.name for check in second.checks} >= {"golden distance", "accuracy", "needs"}
    assert len({check.name for check in second.checks}) == len(second.checks)


def test_always_makes_it_anew_and_another_bundle_has_its_own(bundle: Bundle, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    first, _ = start(bundle, state)
    again, _ = start(bundle, state, "always")
    assert again.certificate != first.certificate
    start(null_bundle(tmp_path / "other", release="2"), state)
    assert len(list(state.glob("certificate-*.json"))) == 2


def test_a_certificate_by_another_device_s_key_is_not_taken_over(bundle: Bundle, tmp_path: Path) -> None:
    """As when the file was copied from the volume of a device of the same kind."""
    first, _ = start(bundle, tmp_path)
    (tmp_path / KEY).unlink()
    second, said = start(bundle, tmp_path)
    assert first.certificate is not None
    assert second.certificate is not None
    assert second.certificate.key != first.certificate.key
    assert f"certificate of {first.certificate.issued_at} is signed by another device's key: making one here" in said


def test_an_engine_of_another_version_needs_another_certificate(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = start(bundle, tmp_path)
    monkeypatch.setattr("deploy.runtime.engines.null.NullEngine.version", "null 2")
    second, _ = start(bundle, tmp_path)
    assert first.certificate is not None
    assert second.certificate is not None
    assert (first.certificate.engine, second.certificate.engine) == ("null 1", "null 2")


def test_off_asks_the_golden_samples_alone_and_serves_the_builds_choice(bundle: Bundle, tmp_path: Path) -> None:
    found, said = start(bundle, tmp_path, "off")
    assert (found.certificate, found.precision, said) == (None, "fp32", [])
    assert [check.name for check in found.checks][-1] == "golden top-1"


def test_without_a_volume_it_is_made_at_each_start_and_that_is_said(bundle: Bundle) -> None:
    found, said = start(bundle, Path("/nowhere"))
    assert found.certificate is not None
    assert any("nowhere to keep it" in line for line in said)
    assert chosen_precision(bundle, 1, Path("/nowhere")) == "fp32"


def test_a_certificate_that_failed_is_kept_to_be_read_and_made_again(bundle: Bundle, tmp_path: Path) -> None:
    broken = Bundle(bundle.folder, replace(bundle.manifest, preprocessing_sha256="0" * 64), bundle.digest)
    found, _ = start(broken, tmp_path)
    assert found.certificate is not None
    assert not found.certificate.passed
    assert not all(check.passed for check in found.checks)
    again, _ = start(bundle, tmp_path)
    assert again.certificate is not None
    assert again.certificate.passed


def test_a_full_volume_keeps_nobody_from_serving(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(ENOSPC, strerror(ENOSPC))

    monkeypatch.setattr("deploy.runtime.certification.startup.save_certificate", full)
    found, said = start(bundle, tmp_path)
    assert found.certificate is not None
    assert any("cannot be kept" in line and "No space left on device" in line for line in said)
