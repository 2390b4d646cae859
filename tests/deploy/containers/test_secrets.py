"""What a folder of secrets holds, and what is said of those that cannot close a server."""

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.containers.secrets import CERT, CLIENT_CA, KEY, TOKENS, read_secret_folder
from tests.deploy.containers.secretfolders import Laid, laid
from tests.deploy.runtime.security.authority import Authority
from toolchain.errors import UsageError


def test_environment_variables_name_only_the_files_that_exist(tmp_path: Path, messages: list[str]) -> None:
    both, one = laid(tmp_path / "both"), laid(tmp_path / "one", TOKENS)
    (both.folder / "README").write_text("ours\n")
    assert read_secret_folder(both.folder).environment == {
        "TLS_CERT": "/secrets/tls.crt", "TLS_KEY": "/secrets/tls.key", "TLS_CLIENT_CA": "/secrets/client-ca.crt",
        "TOKEN_FILE": "/secrets/tokens",
    }  # fmt: skip
    assert read_secret_folder(one.folder).environment == {"TOKEN_FILE": "/secrets/tokens"}
    assert not messages, "nothing is unwise here"


def test_links_within_the_folder_are_accepted_as_kubernetes_makes_them(tmp_path: Path) -> None:
    folder = laid(tmp_path, TOKENS).folder
    (folder / "..data").mkdir()
    (folder / TOKENS).rename(folder / "..data" / TOKENS)
    (folder / TOKENS).symlink_to(f"..data/{TOKENS}")
    (tmp_path / "by-link").symlink_to(folder)
    assert read_secret_folder(tmp_path / "by-link").folder == folder


def expired(one: Laid) -> None:
    old = Authority(one.ours.folder).issue("old", days=-1)
    (one.folder / CERT).write_bytes(old.cert.read_bytes())
    (one.folder / KEY).write_bytes(old.key.read_bytes())


WRONG: dict[str, tuple[Callable[[Laid], object], str]] = {
    "nothing": (
        lambda one: [(one.folder / name).unlink() for name in (CERT, KEY, CLIENT_CA, TOKENS)],
        "--secrets {0}: expected some of tls.crt, tls.key, client-ca.crt, tokens, found none",
    ),
    "no key": (
        lambda one: (one.folder / KEY).unlink(),
        "--secrets {0}: tls.key is missing; tls.crt needs it",
    ),
    "no certificate": (
        lambda one: [(one.folder / name).unlink() for name in (CERT, KEY)],
        "--secrets {0}: tls.crt is missing; client-ca.crt needs it",
    ),
    "a link to elsewhere": (
        lambda one: [(one.folder / TOKENS).unlink(), (one.folder / TOKENS).symlink_to("/etc/passwd")],
        "--secrets: {0}/tokens is a link to /etc/passwd, which a container would not see; copy the file",
    ),
    "a folder": (
        lambda one: [(one.folder / TOKENS).unlink(), (one.folder / TOKENS).mkdir()],
        "--secrets: {0}/tokens: expected a file",
    ),
    "a short token": (
        lambda one: (one.folder / TOKENS).write_text("short\n"),
        "--secrets: {0}/tokens: line 1: expected 16 characters or more, got 5",
    ),
    "another's key": (
        lambda one: (one.folder / KEY).write_bytes(one.client.key.read_bytes()),
        "--secrets: {0}/tls.key: not the key of the certificate in {0}/tls.crt; use the key that belongs to it",
    ),
    "no authority": (
        lambda one: (one.folder / CLIENT_CA).write_text("none\n"),
        "--secrets: {0}/client-ca.crt: it contains no authority's certificate in PEM",
    ),
    "expired": (expired, "--secrets: {0}/tls.crt: expired on "),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_unusable_secrets_folder_is_refused_in_one_line(tmp_path: Path, what: str) -> None:
    one = laid(tmp_path)
    spoil, words = WRONG[what]
    spoil(one)
    with pytest.raises(UsageError) as caught:
        read_secret_folder(one.folder)
    assert str(caught.value).startswith(words.format(one.folder))
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"^--secrets {tmp_path}/none: cannot be read \(No such file or directory\)"):
        read_secret_folder(tmp_path / "none")


def test_world_readable_secrets_are_reported(tmp_path: Path, messages: list[str]) -> None:
    folder = laid(tmp_path).folder
    for name in (KEY, TOKENS):
        (folder / name).chmod(0o644)
    read_secret_folder(folder)
    assert messages == [
        f"secrets: {folder / name}: every user of this machine can read it; chmod o-r {folder / name}"
        for name in (KEY, TOKENS)
    ]
