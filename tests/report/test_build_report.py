"""The report of a build beside a ledger that cannot be used."""

from pathlib import Path

import pytest

from tests.bundles import null_bundle
from toolchain.report.build_report import report_build


def test_a_ledger_that_cannot_be_used_costs_earlier_releases_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, messages: list[str]
) -> None:
    monkeypatch.setenv("TOOLCHAIN_HOME", str(tmp_path / "home"))
    bundle = null_bundle(tmp_path / "null.bundle")
    page = report_build(bundle, "postgresql://me:secret@127.0.0.1:1/ledger")
    assert "null" in page.read_text()
    (warning,) = messages
    assert warning.startswith("warning: the report is without earlier releases: ")
    assert "secret" not in warning
