"""A candidate whose int8 sums saturate on CPUs without VNNI: not offered there, the prediction confirmed or not."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.runtime.certification.candidate_selection import select_candidate
from deploy.runtime.certification.certificate import run_certify
from deploy.runtime.certification.checks import check_saturation
from deploy.runtime.certification.offered import preferred_here, refusal_here
from deploy.runtime.certification.selfcheck import run_selfcheck
from deploy.runtime.engines import Settings, open_engine
from tests.bundles import null_bundle
from toolchain.errors import DeviceError
from toolchain.records.bundle import CERTIFY, Bundle
from toolchain.records.manifest import Candidate
from toolchain.records.saturation import LayerSaturation, Saturation, adds_at_16_bits

ROOT = Path(__file__).parents[4]
SATURATES = Saturation(2, 16, (LayerSaturation("stem", 0.02, 0.25),))
EXACT = Saturation(2, 0)


@pytest.fixture
def no_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_avx2(*_: Any) -> tuple[str, ...]:
        return ("avx2",)

    for place in ("deploy.runtime.engines.saturation.cpu_isa", "deploy.runtime.device.probe._cpu_isa"):
        monkeypatch.setattr(place, only_avx2)


def release(folder: Path, predicted: Saturation, **changes: Any) -> Bundle:
    """int8 is the build's choice, at half the time of fp32."""
    made = null_bundle(folder, **{"delay_ms": 2, "int8_ms": 1, "choose": "device", "chosen": "int8", **changes})
    candidates = [
        msgspec.structs.replace(one, saturation=predicted if one.precision == "int8" else None)
        for one in made.manifest.candidates
    ]
    return Bundle(made.folder, msgspec.structs.replace(made.manifest, candidates=tuple(candidates)), made.digest)


@pytest.mark.parametrize(
    ("architecture", "isa", "stops"),
    [
        ("x86_64", ("avx2",), True),
        ("x86_64", ("avx2", "avx512f"), True),
        ("x86_64", ("avx512_vnni",), False),
        ("x86_64", ("avx_vnni",), False),
        ("aarch64", ("asimd",), False),
    ],
)
def test_x86_without_vnni_adds_at_16_bits(architecture: str, isa: tuple[str, ...], stops: bool) -> None:
    assert adds_at_16_bits(architecture, isa) is stops


@pytest.mark.usefixtures("no_vnni")
def test_an_engine_refuses_to_serve_what_would_saturate_here_and_says_what_to_do(tmp_path: Path) -> None:
    bundle = release(tmp_path / "b", SATURATES)
    int8 = bundle.manifest.candidate("int8")
    with pytest.raises(DeviceError) as caught:
        open_engine(bundle.folder, int8, Settings(1))
    sentence = str(caught.value)
    assert "int8 would saturate on this CPU (" in sentence
    assert "which has none of avx512_vnni, avx_vnni, amx_int8" in sentence
    assert "1 of 2 layers, worst: stem (2 % of its sums, outputs off by 25 %)" in sentence
    assert "build it without full_range under [target.null]" in sentence
    with open_engine(bundle.folder, int8, Settings(1, saturating=True)) as engine:
        assert engine.version


def test_with_vnni_it_is_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("deploy.runtime.engines.saturation.cpu_isa", lambda: ("avx2", "avx_vnni"))
    bundle = release(tmp_path / "b", SATURATES)
    assert refusal_here(bundle.manifest) is None
    assert preferred_here(bundle.manifest) == "int8"


@pytest.mark.usefixtures("no_vnni")
def test_a_device_without_vnni_takes_the_form_that_fits_it_and_confirms_the_prediction(tmp_path: Path) -> None:
    bundle = release(tmp_path / "b", SATURATES)
    assert preferred_here(bundle.manifest) == "fp32"
    found = select_candidate(bundle, 1, lambda _: None)
    assert found.precision == "fp32"
    assert found.candidates[1].verdict.startswith("not offered: int8 would saturate on this CPU")
    assert found.candidates[1].accuracy == 1.0, "it is measured all the same"
    certificate = run_certify(bundle, 1, lambda _: None, seconds=0.05)
    assert certificate.passed
    assert certificate.precision == "fp32"
    [check] = [check for check in certificate.checks if check.name == "saturation"]
    assert check.found == "int8: predicted to saturate, as accurate as built: contradicted"


@pytest.mark.usefixtures("no_vnni")
@pytest.mark.parametrize(
    ("predicted", "passed", "text"),
    [
        (SATURATES, True, "int8: predicted to saturate, loses images: confirmed"),
        (EXACT, False, "int8: predicted exact, loses images: contradicted"),
    ],
)
def test_a_loss_confirms_or_contradicts(predicted: Saturation, passed: bool, text: str, tmp_path: Path) -> None:
    bundle = release(tmp_path / "b", predicted)
    images = bundle.read_arrays(CERTIFY)["images"]
    np.savez(bundle.path(CERTIFY), allow_pickle=False, images=images, labels=np.ones(len(images), np.int64))
    certificate = run_certify(bundle, 1, lambda _: None, seconds=0.05)
    check = check_saturation(bundle, certificate)
    assert (check.passed, check.found) == (passed, text)


def test_a_cpu_that_adds_at_32_bits_says_that_nothing_can_saturate_as_the_log_in_the_docs_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("deploy.runtime.engines.saturation.cpu_isa", "deploy.runtime.device.probe._cpu_isa"):
        monkeypatch.setattr(place, lambda *_: ("avx512_vnni",))
    bundle = release(tmp_path / "b", EXACT)
    check = check_saturation(bundle, run_certify(bundle, 1, lambda _: None, seconds=0.05))
    assert (check.passed, check.found) == (True, "cannot occur: this CPU adds int8 products at 32 bits")
    log = (ROOT / "docs" / "deploy-cpu.txt").read_text()  # of a machine of either kind
    found = (check.found, "int8: predicted exact, as accurate as built: confirmed")
    assert any(f"passed: saturation: {words}; expected {check.expected}\n" in log for words in found)


@pytest.mark.usefixtures("no_vnni")
def test_a_release_with_nothing_else_is_refused_as_a_need_of_the_device(tmp_path: Path) -> None:
    certificate = run_certify(release(tmp_path / "b", SATURATES, choose="build"), 1, lambda _: None)
    [needs] = certificate.checks
    assert not needs.passed
    assert needs.found.startswith("int8 would saturate on this CPU")


@pytest.mark.usefixtures("no_vnni")
def test_an_image_built_without_vnni_still_passes_its_selfcheck(tmp_path: Path) -> None:
    found = run_selfcheck(release(tmp_path / "b", SATURATES), 1)
    assert found.passed
    assert any(check.found.startswith("not opened: int8 would saturate") for check in found.checks)


def test_an_old_candidate_has_no_prediction_and_is_offered_as_before() -> None:
    assert not Candidate("int8", "openvino", (), 0).saturates
