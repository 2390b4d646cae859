"""The ledger as a DataFrame, where pandas is there."""

import importlib.util
import sys
from pathlib import Path

import pytest

import toolchain as edge
from deploy.ledger.history import HistoryRow
from deploy.ledger.ledger import Ledger
from tests.bundles import null_bundle
from toolchain.errors import UsageError

HAS_PANDAS = importlib.util.find_spec("pandas") is not None


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    with Ledger(url) as book:
        book.record_release(null_bundle(tmp_path / "null.bundle"), 1000)
    return url


def test_without_pandas_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, ledger: str) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"^history: pandas is not installed; pip install .*\[notebook\]'$"):
        edge.history(ledger=ledger)


def test_a_limit_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^history: limit=0: expected 1 or more"):
        edge.history(limit=0)


@pytest.mark.skipif(not HAS_PANDAS, reason="pandas is not installed: make setup")
def test_the_ledgers_rows_are_a_frame(ledger: str) -> None:
    frame = edge.history(ledger=ledger)
    assert list(frame.columns) == list(HistoryRow.__struct_fields__)
    assert frame[["name", "release", "accuracy"]].to_numpy().tolist() == [["null", "1", 1.0]]
    assert str(frame["at"].dt.tz) == "UTC"
    assert edge.history("other", ledger=ledger).empty
