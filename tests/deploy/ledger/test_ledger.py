"""The ledger, on SQLite and on a real PostgreSQL server."""

import json
import sqlite3
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from zlib import compress

import msgspec
import pytest
import sqlalchemy as sql

from deploy.ledger.ledger import Ledger
from deploy.ledger.schema import reports
from tests.bundles import null_bundle
from tests.deploy.ledger.ledgers import certificate, free_port, report
from toolchain.errors import RecordError
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import SaturationOutcome
from toolchain.records.report import FORMAT, Report, Scenario
from toolchain.records.saturation import LayerSaturation, Saturation
from toolchain.records.storage import decode_record, encode_record


def test_history_joins_release_device_accuracy_latency_and_size(place: str, tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "one.bundle")
    with Ledger(place) as ledger:
        assert ledger.record_release(bundle) == bundle.digest
        ledger.record_release(bundle, image_bytes=200_000_000)
        ledger.record_report(report(bundle.digest))
        ledger.record_certificate(certificate(bundle.digest, "2026-01-01T00:00:00+00:00", 0.5))
        ledger.record_certificate(certificate(bundle.digest))
        (row,) = ledger.history()
    assert row.bundle == bundle.digest
    assert (row.name, row.release, row.target, row.precision) == ("null", "1", "null", "fp32")
    assert (row.accuracy, row.certified) == (1.0, 0.75)
    assert (row.size_bytes, row.image_bytes) == (bundle.manifest.serving.size_bytes, 200_000_000)
    assert row.device == "Xeon, 2 CPUs"
    assert row.p50_ms == pytest.approx(1 + 49 / 7)
    assert row.p90_ms == pytest.approx(1 + 89 / 7)
    assert (row.throughput_per_s, row.peak_memory_bytes, row.cold_start_s) == (123.0, 5_000_000_000, 0.7)


def test_recording_twice_changes_nothing(place: str, tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "one.bundle")
    with Ledger(place) as ledger:
        for _ in range(2):
            ledger.record_release(bundle, image_bytes=7)
            ledger.record_report(report(bundle.digest))
            ledger.record_certificate(certificate(bundle.digest))
        ledger.record_release(bundle)
        assert [row.image_bytes for row in ledger.history()] == [7]
        assert len(ledger.reports(bundle.digest)) == 1


def test_a_report_comes_back_with_every_latency_exactly(place: str) -> None:
    without = report(interleaved=None, cold_start_s=None, scenarios=(), measured_at="2026-01-01T00:00:00+00:00")
    with Ledger(place) as ledger:
        ledger.record_report(report())
        ledger.record_report(without)
        assert ledger.reports("b" * 64) == (without, report())
        assert ledger.reports("c" * 64) == ()


def test_a_report_of_the_first_format_is_read_exactly_as_recorded(place: str) -> None:
    """As 0.1.0 kept it: fields that reports got since are in neither the document nor the digest."""
    content = (Path(__file__).parents[2] / "records" / "old" / "report-1.json").read_bytes()
    bare = json.loads(content)
    latencies = {
        "scenarios": [scenario["latencies_ms"] for scenario in bare["scenarios"]],
        "duet": bare["duet"]["latencies_ms"],
    }
    bare["duet"]["latencies_ms"] = {}
    for scenario in bare["scenarios"]:
        scenario["latencies_ms"] = []
    with Ledger(place) as ledger:
        digest = ledger.record_report(report())
        with ledger._engine.begin() as connection:
            connection.execute(
                reports.update()
                .where(reports.c.report == digest)
                .values(
                    report=sha256(content).hexdigest(),
                    document=json.dumps(bare, indent=1),
                    latencies=compress(msgspec.msgpack.encode(latencies)),
                )
            )
        (found,) = ledger.reports("b" * 64)
    assert found.format == 1
    assert found == decode_record(content, Report, "old", FORMAT)


def test_history_is_newest_first_filtered_by_name_and_limited(place: str, tmp_path: Path) -> None:
    with Ledger(place) as ledger:
        ledger.record_release(null_bundle(tmp_path / "one.bundle"))  # now, without any report
        for day in (1, 3, 2):
            ledger.record_report(report(release=str(day), measured_at=f"2026-01-0{day}T00:00:00+00:00"))
        ledger.record_report(report(name="other", bundle="c" * 64, measured_at="2025-01-01T00:00:00+00:00"))
        rows = ledger.history()
        assert [row.release for row in rows] == ["1", "3", "2", "1", "1"]
        assert (rows[0].device, rows[0].p50_ms, rows[1].size_bytes) == (None, None, None)
        assert [row.name for row in ledger.history("other")] == ["other"]
        assert len(ledger.history(limit=2)) == 2


def test_too_few_latencies_give_no_percentiles(place: str) -> None:
    few = (Scenario("SingleStream", (1.0, 2.0), 1.0, 1.0, False),)
    with Ledger(place) as ledger:
        ledger.record_report(report(scenarios=few))
        (row,) = ledger.history()
    assert (row.p50_ms, row.p90_ms, row.throughput_per_s) == (None, None, None)


WRITER = """
import sys
from deploy.ledger.ledger import Ledger
from tests.deploy.ledger.ledgers import report
place, writer = sys.argv[1], int(sys.argv[2])
for number in range(5):
    with Ledger(place) as ledger:
        ledger.record_report(report(throttled_periods=100 * writer + number))
        ledger.history()
"""


@pytest.mark.slow
def test_concurrent_writers_create_one_ledger_and_lose_nothing(place: str) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, place, str(number)]) for number in range(3)]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    with Ledger(place) as ledger:
        periods = {report.throttled_periods for report in ledger.reports("b" * 64)}
    assert periods == {100 * writer + number for writer in range(3) for number in range(5)}


def test_a_ledger_of_a_newer_format_is_refused(place: str) -> None:
    with Ledger(place) as ledger, ledger._engine.begin() as connection:
        connection.execute(sql.text("UPDATE ledger_format SET format = 3"))
    with (
        pytest.raises(RecordError, match="ledger format 3, this toolchain reads 2; update the toolchain"),
        Ledger(place),
    ):
        pass


def test_a_changed_latency_is_detected(place: str) -> None:
    with Ledger(place) as ledger:
        ledger.record_report(report())
        with ledger._engine.begin() as connection:
            connection.execute(
                sql.text("UPDATE reports SET threads = 2, document = replace(document, 'null 1', 'null 2')")
            )
        with pytest.raises(RecordError, match=r"changed since it was recorded .*; measure again: toolchain bench"):
            ledger.reports("b" * 64)


def test_latencies_that_cannot_be_unpacked_are_named(tmp_path: Path) -> None:
    place = tmp_path / "ledger.sqlite"
    with Ledger(place) as ledger:
        digest = ledger.record_report(report())
    with sqlite3.connect(place) as connection:
        connection.execute("UPDATE reports SET latencies = x'00'")
    connection.close()
    with (
        Ledger(place) as ledger,
        pytest.raises(RecordError, match=f"report {digest[:12]}: its latencies cannot be read"),
    ):
        ledger.reports("b" * 64)


@pytest.mark.parametrize("content", [b"not a database at all, but a text" * 100, b"SQLite format 3\0" + b"\xff" * 4096])
def test_a_corrupt_file_is_refused_in_one_line_and_left_alone(content: bytes, tmp_path: Path) -> None:
    place = tmp_path / "ledger.sqlite"
    place.write_bytes(content)
    with pytest.raises(RecordError, match="move that file away; a new ledger is then created") as caught, Ledger(place):
        pass
    assert str(caught.value).startswith(f"{place}: the ledger cannot be used: ")
    assert "\n" not in str(caught.value)
    assert place.read_bytes() == content


def test_an_impossible_ledger_location_is_refused(tmp_path: Path) -> None:
    for place in ("mysql://u:secret@host/db", "http://host/x", "sqlite://", "postgresql://u:secret@host:port/db"):
        with pytest.raises(RecordError, match="a file's path or postgresql://user") as caught:
            Ledger(place)
        assert "secret" not in str(caught.value)
    with pytest.raises(RecordError, match="unable to open database file"), Ledger(tmp_path):
        pass


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    port = free_port()
    with pytest.raises(RecordError) as caught, Ledger(f"postgresql://judge:secret@127.0.0.1:{port}/ledger"):
        pass
    message = str(caught.value)
    assert message.startswith(f"postgresql://judge:***@127.0.0.1:{port}/ledger: the ledger cannot be used: ")
    assert "secret" not in message
    assert "\n" not in message


def test_by_default_the_ledger_lies_in_the_toolchains_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TOOLCHAIN_LEDGER", raising=False)
    with Ledger():
        assert (tmp_path / "home" / "ledger.sqlite").is_file()
    monkeypatch.setenv("TOOLCHAIN_LEDGER", str(tmp_path / "other.sqlite"))
    with Ledger():
        assert (tmp_path / "other.sqlite").is_file()


def test_predictions_of_saturation_are_counted_against_the_certificates(place: str, tmp_path: Path) -> None:
    bundle = predicted_bundle(tmp_path / "one.bundle")
    with Ledger(place) as ledger:
        ledger.record_release(bundle)
        assert ledger.saturation_outcomes() == ()
        ledger.record_certificate(certificate(bundle.digest, "2026-01-01T00:00:00+00:00", 1.0))
        assert [one.is_hit for one in ledger.saturation_outcomes()] == [False], "predicted to saturate, and did not"
        ledger.record_certificate(certificate(bundle.digest))  # 75 % here, 100 % where it was built
        [outcome] = ledger.saturation_outcomes("null")
        assert ledger.saturation_outcomes("another") == ()
    assert outcome == SaturationOutcome("fp32", predicted=True, lost=True)


def predicted_bundle(folder: Path) -> Bundle:
    """Its only candidate was predicted to saturate."""
    made = null_bundle(folder)
    saturation = Saturation(1, 1, (LayerSaturation("stem", 0.1, 0.1),))
    [only] = made.manifest.candidates
    candidates = (msgspec.structs.replace(only, saturation=saturation),)
    manifest = msgspec.structs.replace(made.manifest, candidates=candidates)
    return Bundle(made.folder, manifest, sha256(encode_record(manifest)).hexdigest())
