"""Files that earlier releases wrote: a fleet keeps them for years, so they must always load."""

from pathlib import Path

import msgspec
import pytest

from toolchain.errors import RecordError
from toolchain.records import certificate, manifest, report
from toolchain.records.certificate import Certificate
from toolchain.records.manifest import Candidate, Manifest, Precision
from toolchain.records.report import Report
from toolchain.records.storage import decode_record, read_record
from toolchain.records.tensors import preprocessing_digest

OLD = Path(__file__).parent / "old"


def test_a_report_of_format_1_loads_with_every_latency() -> None:
    old = read_record(OLD / "report-1.json", Report, report.FORMAT)
    stream = old.scenario("SingleStream")
    assert (old.format, old.name, old.threads, old.cold_start_s) == (1, "null", 2, 0.87)
    assert len(stream.latencies_ms) >= 64
    assert stream.percentile_ms(90) is not None
    assert stream.percentile_ms(99) is None
    assert old.interleaved is not None
    assert old.interleaved.latencies_ms["torch"] == ((9.0, 8.8), (9.1, 9.3))
    assert (old.fingerprint.cpu_quota, old.fingerprint.memory_limit_bytes) == (0.5, 512 * 2**20)


def test_a_certificate_of_format_1_loads_with_its_checks() -> None:
    old = read_record(OLD / "certificate-1.json", Certificate, certificate.FORMAT)
    assert old.passed
    assert (old.format, old.accuracy, old.images) == (1, 1.0, 12)
    assert [check.name for check in old.checks][:2] == ["needs", "preprocessing"]


def test_the_digest_of_a_preprocessing_stays_what_earlier_releases_wrote() -> None:
    old = read_record(OLD / "manifest-1.json", Manifest, manifest.FORMAT)
    assert preprocessing_digest(old.preprocessing) == old.preprocessing_sha256
    for key, value in {"scale": 1, "letterbox": (0,), "resampler": "opencv", "offset": "floor"}.items():
        changed = msgspec.structs.replace(old.preprocessing, **{key: value})
        assert preprocessing_digest(changed) != old.preprocessing_sha256


def test_a_manifest_of_format_1_loads_with_its_candidates_and_steps() -> None:
    old = read_record(OLD / "manifest-1.json", Manifest, manifest.FORMAT)
    assert (old.format, old.name, old.chosen, old.serving.precision) == (1, "cifar10-resnet20-pruned", "fp32", "fp32")
    assert [candidate.precision for candidate in old.candidates] == ["fp32", "bf16", "int8"]
    assert {candidate.storage for candidate in old.candidates} == {""}
    assert [step.step for step in old.steps] == ["model", "prune_channels", "finetune", "quantize"]


@pytest.mark.parametrize("kind", [Report, Certificate])
def test_a_record_of_a_newer_format_is_refused_with_the_remedy(kind: type[Report] | type[Certificate]) -> None:
    with pytest.raises(RecordError, match=f"there: {kind.__name__} format 99; this toolchain reads 1 to 1; update"):
        decode_record(b'{"format": 99}', kind, "there", 1)


def test_weights_stored_narrower_than_computed_are_described() -> None:
    def storage(precision: Precision, **options: float) -> str:
        return Candidate(precision, "openvino", (), 0, options=options).storage

    assert storage("fp32") == storage("int8") == storage("int8", weight_bits=8.0) == storage("bf16") == ""
    assert storage("fp16") == "stored, not computed, at 16 bits"
    assert storage("int4w") == "stored, not computed, at 4 bits"
    assert storage("int1w", weight_bits=1.0) == "stored, not computed, at 1 bit"
    assert storage("int8", weight_bits=4.0) == "stored, not computed, at 4 bits: computed at 8"
