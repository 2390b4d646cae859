import json
from pathlib import Path

import pytest

from deploy.ledger.jsonl import dump_jsonl, load_jsonl
from deploy.ledger.ledger import Ledger
from tests.bundles import null_bundle
from tests.deploy.ledger.ledgers import certificate, gate_of, report
from toolchain.errors import RecordError


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    bundle = null_bundle(tmp_path / "b")
    with Ledger(tmp_path / "one.sqlite") as ledger:
        ledger.record_release(bundle, 1234)
        ledger.record_report(report(bundle.digest))
        ledger.record_certificate(certificate(bundle.digest))
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
