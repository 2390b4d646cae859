"""Old spellings work for one more release, and each prints the new one."""

import pytest

from toolchain.cli import COMMANDS
from toolchain.cli.parser import Call, read
from toolchain.cli.renamed import current_spelling


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("export --out=l.jsonl", "ledger export --out=l.jsonl"),
        ("import l.jsonl", "ledger import l.jsonl"),
        ("history net", "ledger history net"),
        ("verify c.json --key=k", "certificate verify c.json --key=k"),
        ("release verify net:1 --bundle=b", "image verify net:1 --bundle=b"),
        ("release sbom net:1", "image sbom net:1"),
        ("release sign net:1", "image sign net:1"),
        ("manifests b --image=i --to=t", "kubernetes manifests b --image=i --to=t"),
        ("ship net:1 --despite-gate=recall --why=x", "ship net:1 --skip-gate --reason=recall --message=x"),
        ("unpack f --despite_gate recall", "unpack f --skip-gate --reason recall"),
        ("rollback a --why x", "rollback a --message x"),
        ("gate net:1 --across=engine", "gate net:1 --allow-difference=engine"),
    ],
)
def test_an_old_spelling_runs_the_new_command(old: str, new: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = current_spelling(old.split())
    assert words == new.split()
    assert isinstance(read(COMMANDS, words), Call)
    lines = capsys.readouterr().err.splitlines()
    assert lines
    assert all(line.endswith("; the old spelling will not work in the next release") for line in lines)


@pytest.mark.parametrize(
    "words", ["", "ledger export", "image sign x", "ship x -- --why=a", "build --why=x", "logs history"]
)
def test_other_command_lines_stay_unchanged(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert current_spelling(words.split()) == words.split()
    assert capsys.readouterr().err == ""
