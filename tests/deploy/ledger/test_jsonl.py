import json
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from nacl.signing import SigningKey

from deploy.images.signatures import public_key
from deploy.ledger.jsonl import LedgerLine, dump_jsonl, load_jsonl
from deploy.ledger.ledger import Ledger
from deploy.ledger.samples import encode_document
from deploy.runtime.device.signing import sign_certificate
from tests.bundles import null_bundle
from tests.deploy.ledger.ledgers import DEVICE, certificate, gate_of, report
from toolchain.errors import RecordError
from toolchain.records.certificate import Certificate
from toolchain.records.storage import encode_record

DEVICE_KEY, OTHER_KEY = SigningKey(bytes(32)), SigningKey(bytes(range(32)))


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    bundle = null_bundle(tmp_path / "b")
    with Ledger(tmp_path / "one.sqlite") as ledger:
        ledger.record_release(bundle, 1234)
        ledger.record_report(report(bundle.digest))
        ledger.record_certificate(sign_certificate(certificate(bundle.digest), DEVICE_KEY))
        ledger.record_gate(gate_of(bundle.digest))
        return list(dump_jsonl(ledger))


def test_an_export_imports_completely_and_a_second_import_changes_nothing(lines: list[bytes], tmp_path: Path) -> None:
    assert [json.loads(line)["kind"] for line in lines] == ["release", "certificate", "report", "gate"]
    with Ledger(tmp_path / "two.sqlite") as other:
        assert load_jsonl(other, lines, "here") == dict.fromkeys(("release", "certificate", "report", "gate"), 1)
        load_jsonl(other, [*lines, b"\n"], "here")
        assert list(dump_jsonl(other)) == lines
        (row,) = other.history()
        assert row.image_bytes == 1234


def test_a_single_model_can_be_exported(lines: list[bytes], tmp_path: Path) -> None:
    with Ledger(tmp_path / "one.sqlite") as ledger:
        assert list(dump_jsonl(ledger, "null")) == lines
        assert list(dump_jsonl(ledger, "other")) == []


def test_a_changed_latency_is_refused_with_its_line(lines: list[bytes], tmp_path: Path) -> None:
    forged = lines[2].replace(b'"throughput_per_s":', b'"throughput_per_s":1', 1)
    assert forged != lines[2]
    with Ledger(tmp_path / "two.sqlite") as other:
        with pytest.raises(RecordError, match=r"^here, line 2: the report was changed since it was recorded"):
            load_jsonl(other, [lines[0], forged], "here")
        with pytest.raises(RecordError, match=r"^here, line 1: .*expected a line of `toolchain ledger export`$"):
            load_jsonl(other, [b"hello"], "here")
        with pytest.raises(RecordError, match=r"^here, line 1: .*expected a line of `toolchain ledger export`$"):
            load_jsonl(other, [b'{"kind": "\xff"}'], "here")


def line_of(found: Certificate) -> bytes:
    """As a ledger that checks nothing would export it."""
    record = json.loads(encode_record(found))
    digest = sha256(encode_document(record)).hexdigest()
    return msgspec.json.encode(LedgerLine("certificate", digest, record))


def test_a_certificate_must_be_signed_by_its_device_and_be_of_its_bundle(lines: list[bytes], tmp_path: Path) -> None:
    bundle = json.loads(lines[0])["digest"]
    sound = certificate(bundle)
    elsewhere = msgspec.structs.replace(sound, fingerprint=msgspec.structs.replace(DEVICE, cpu_model="Another CPU"))
    renamed = msgspec.structs.replace(sound, name="other", release="7")
    forged = msgspec.structs.replace(sign_certificate(sound, DEVICE_KEY), accuracy=0.99)
    with Ledger(tmp_path / "two.sqlite") as ledger:
        load_jsonl(ledger, lines, "here")
        for found, told in (
            (sound, r"null 1: not signed: older .*; to take unsigned ones too: --allow-unsigned$"),
            (forged, r"null 1: the signature does not match: the certificate was changed"),
            (
                sign_certificate(elsewhere, DEVICE_KEY),
                r"null 1 is of Another CPU.* and signed by O2onvM62pC1io6jQ, which this ledger knows as the key of ",
            ),
            (
                sign_certificate(renamed, DEVICE_KEY),
                rf"other 7 is of bundle {bundle[:12]}, which is null 1 in",
            ),
        ):
            with pytest.raises(RecordError, match=rf"^here, line 1: the certificate of {told}"):
                load_jsonl(ledger, [line_of(found)], "here")
        other = line_of(sign_certificate(certificate(bundle, "2026-02-01T00:00:00+00:00"), OTHER_KEY))
        with pytest.raises(RecordError, match=r"of the device .+, which is not among those of --key$"):
            load_jsonl(ledger, [other], "here", keys=(public_key(DEVICE_KEY),))
        assert load_jsonl(ledger, [other], "here", keys=(public_key(OTHER_KEY),)) == {"certificate": 1}
        assert load_jsonl(ledger, [line_of(sound)], "here", unsigned=True) == {"certificate": 1}
