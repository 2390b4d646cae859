"""The threat model names a test for every defence: each of them exists."""

import re

from tests.house.tree import ROOT

PAGE = ROOT / "docs" / "concepts" / "threat-model.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)?(?:::)?(test_\w+)?`")
BENCHED = re.compile(r"`make bench-hardening ONLY=(\w+)`")
DEFINED = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)
ROWS = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| attack")]


def named_in(row: str) -> list[tuple[str, str]]:
    """(path, test) of the last column, either of which may be empty."""
    return [pair for pair in NAMED.findall(row.rsplit(" | ", 1)[1]) if any(pair)]


def test_every_defence_names_a_test() -> None:
    assert len(ROWS) > 8
    assert [row for row in ROWS if not named_in(row) and not BENCHED.search(row)] == []


def test_every_named_test_exists() -> None:
    defined = {path: set(DEFINED.findall(path.read_text())) for path in (ROOT / "tests").rglob("test_*.py")}
    everywhere = set().union(*defined.values())
    for row in ROWS:
        for path, name in named_in(row):
            tests = defined.get(ROOT / path, set()) if path else everywhere
            assert tests and (not name or name in tests), f"{path}::{name}, of: {row}"


def test_every_named_bench_exists() -> None:
    for topic in BENCHED.findall(PAGE.read_text()):
        assert (ROOT / "benchmarks" / "hardening" / f"{topic}.py").is_file(), topic
