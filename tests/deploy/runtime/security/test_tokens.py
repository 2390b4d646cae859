"""Bearer tokens: who is let in, and what a file of them may hold."""

from pathlib import Path

import pytest

from deploy.runtime.logs import Log
from deploy.runtime.security.tokens import Tokens, token_digests
from toolchain.errors import UsageError

ONE, TWO = "first-token-of-ours", "second-token-of-ours"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# the gateway's\n{ONE}\n\n  {TWO}  \n")
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("shown", [f"Bearer {ONE}", f"bearer {TWO}", f"BEARER  {ONE} "])
def test_every_token_of_the_file_is_allowed(file: Path, shown: str) -> None:
    assert Tokens(file, Log()).allows(shown.encode())


@pytest.mark.parametrize(
    "shown",
    [
        *(None, b"", b"Bearer", b"Bearer ", b"Bearer \xff", b"Bearer # the gateway's"),
        *(ONE.encode(), f"Basic {ONE}".encode(), f"Bearer {ONE}x".encode(), f"Bearer {ONE[:-1]}".encode()),
        f"Bearer {ONE}, Bearer {TWO}".encode(),
    ],
)
def test_nothing_else_is(file: Path, shown: bytes | None) -> None:
    assert not Tokens(file, Log()).allows(shown)


def test_a_token_can_be_changed_without_a_restart(file: Path) -> None:
    tokens = Tokens(file, Log())
    file.write_text("third-token-of-ours\n")
    tokens.poll()
    assert tokens.allows(b"Bearer third-token-of-ours")
    assert not tokens.allows(f"Bearer {ONE}".encode())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n\n", "it contains no token; write one per line: openssl rand -hex 32 >> "),
        (f"{ONE}\nshort-secret\n", "line 2: expected 16 characters or more, got 12"),
        (f"{ONE} {TWO}\n", "line 1: expected one token, in ASCII and without spaces"),
        ("a-token-with-an-\u00e4-in-it\n", "line 1: expected one token, in ASCII and without spaces"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_no_token_told(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        token_digests(file)
    assert str(caught.value).startswith(f"--token-file {file}: {message}")
    assert not any(secret in str(caught.value) for secret in (ONE, TWO, "short-secret", "a-token"))


def test_a_file_that_everyone_can_read_is_told_of(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Tokens(file, Log())
    assert capsys.readouterr().err == ""
    file.chmod(0o644)
    Tokens(file, Log())
    assert "every user of this machine can read it; chmod o-r" in capsys.readouterr().err
