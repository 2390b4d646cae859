"""Gates in the ledger, on SQLite and on a real PostgreSQL server."""

from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sql

from deploy.ledger.ledger import Ledger
from tests.bundles import null_bundle
from tests.deploy.ledger.ledgers import DEVICE, gate_of, report


def test_a_gate_comes_back_with_every_round_exactly(place: str) -> None:
    incomparable = gate_of(fingerprint=None, verdict="not comparable", judged_at="2026-01-03T00:00:00+00:00")
    with Ledger(place) as ledger:
        for gate in (gate_of(), gate_of(), incomparable):
            ledger.record_gate(gate)
        assert ledger.gates("a" * 64) == (gate_of(), incomparable)
        assert ledger.gates("b" * 64) == ()


def test_noise_comes_from_gates_of_a_release_against_itself_on_that_device(place: str) -> None:
    same = {"candidate": "b" * 64, "baseline": "b" * 64}
    other = msgspec.structs.replace(DEVICE, cores=4)
    with Ledger(place) as ledger:
        ledger.record_gate(gate_of(**same, change=0.02))
        ledger.record_gate(gate_of(**same, change=-0.01, seconds=1.0))
        for besides in ({"slower": 0.05}, {"threads": 1}, {"fingerprint": other}):
            ledger.record_gate(gate_of(**same, **besides))
        ledger.record_gate(gate_of())
        noise = ledger.gate_noise("null", "fp32", DEVICE, 2)
        assert list(noise) == ["p50"]
        assert sorted(noise["p50"]) == pytest.approx([-0.01005, 0.0198], abs=1e-4)
        assert ledger.gate_noise("null", "int8", DEVICE, 2) == {}


def test_other_releases_are_listed_newest_first_with_their_last_verdict(place: str, tmp_path: Path) -> None:
    bundles = [null_bundle(tmp_path / f"{number}.bundle", release=str(number)) for number in range(4)]
    with Ledger(place) as ledger:
        for bundle in bundles:
            ledger.record_release(bundle)
        first, second, third, last = (bundle.digest for bundle in bundles)
        for number, verdict in enumerate(("passed", "regressed")):
            ledger.record_gate(gate_of(second, first, verdict=verdict, judged_at=f"2026-01-0{number + 1}"))
        ledger.record_gate(gate_of(third, second))
        ledger.record_gate(gate_of(first, first))  # against itself: says nothing of the release
        others = ledger.other_releases(last, "null", "null")
        assert others == ((third, "2", "passed", True), (second, "1", "regressed", True), (first, "0", "", True))
        assert [
            (other_release.release, other_release.older)
            for other_release in ledger.other_releases(second, "null", "null")
        ] == [
            ("3", False),
            ("2", False),
            ("0", True),
        ]
        assert ledger.other_releases(last, "null", "openvino") == ledger.other_releases(last, "net", "null") == ()


def test_a_ledger_of_the_first_format_is_migrated_completely(place: str) -> None:
    with Ledger(place) as ledger:
        ledger.record_report(report())
        with ledger._engine.begin() as connection:  # what the first format had
            connection.execute(sql.text("DROP TABLE gates"))
            connection.execute(sql.text("UPDATE ledger_format SET format = 1"))
    for _ in range(2):
        with Ledger(place) as ledger:
            ledger.record_gate(gate_of())
            assert ledger.reports("b" * 64) == (report(),)
            assert ledger.gates("a" * 64) == (gate_of(),)
