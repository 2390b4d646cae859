"""The table of engines: what it shows of a pair that works, and what counts as a failure of the row."""

from pathlib import Path

import pytest

from benchmarks.hardening import engines
from benchmarks.hardening.engines import EngineTable, table_row
from tests.edges import Edge
from tests.engines.pairs import BuildHost, PairResult
from tests.engines.systems import CONTAINERD_28, PODMAN_5

SENT = {"first": 77_091_787, "next": 6009, "stick": 11264, "rollback": 0}
FAILED = PairResult(CONTAINERD_28.name, PODMAN_5.name, {"first": 1}, {"next": "edge2: the disk is full"})


def table(*pairs: PairResult) -> EngineTable:
    host = BuildHost(Edge("edge1", "10.77.0.1", Path("edge1"), Path("data"), CONTAINERD_28), Path("host"))
    return EngineTable([host], pairs)


def test_a_pair_that_works_says_what_was_sent_and_the_row_holds() -> None:
    found = table(PairResult(CONTAINERD_28.name, CONTAINERD_28.name, SENT, {}))
    assert "| Docker 28.5, containerd store | yes | yes | yes |" in found.markdown()
    assert "| Docker 28.5, containerd store | yes: 77.1 MB, then 6 kB |" in found.markdown()
    assert table_row(found).holds


def test_a_step_that_fails_is_named_with_its_line_and_the_row_falls_short() -> None:
    found = table(FAILED)
    assert "| not: next |" in found.markdown()
    assert found.failures() == ["Docker 28.5, containerd store to Podman 5.4: next: edge2: the disk is full"]
    assert not table_row(found).holds


def test_an_excuse_is_for_one_step_and_its_words_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "EXCUSED", {("", PODMAN_5.name): ("next", "disk is full")})
    assert table(FAILED).failures() == []
    monkeypatch.setattr(engines, "EXCUSED", {("", PODMAN_5.name): ("first", "disk is full")})
    assert len(table(FAILED).failures()) == 1
