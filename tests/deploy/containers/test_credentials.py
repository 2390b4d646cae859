"""Files that a person names, and what is said of those that cannot be used."""

from pathlib import Path

import pytest

from deploy.containers.credentials import Credentials
from tests.deploy.runtime.security.authority import Authority
from toolchain.errors import UsageError


def test_the_first_token_of_the_file_is_sent(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# old and new\n\nthe-new-token-of-ours\nthe-old-token-of-ours\n")
    assert Credentials(file).headers() == {"Authorization": "Bearer the-new-token-of-ours"}
    assert Credentials().headers() == {}


def test_files_that_cannot_be_used_are_named_with_their_flag(tmp_path: Path) -> None:
    nothing, junk, one, other = tmp_path / "nothing", tmp_path / "junk", *map(Authority(tmp_path).issue, ("a", "b"))
    junk.write_text("# none\n")
    for made, message in (
        (lambda: Credentials(nothing).headers(), f"--token-file {nothing}: cannot be read (No such file or directory)"),
        (lambda: Credentials(junk).headers(), f"--token-file {junk}: no token in it; expected one per line"),
        (lambda: Credentials(ca=junk).context(), f"--ca {junk}: no certificates in PEM can be read there ("),
        (lambda: Credentials(cert=one.cert).context(), "--cert and --key go together; give both"),
        (lambda: Credentials(cert=one.cert, key=other.key).context(), f"--cert {one.cert}, --key {other.key}: no cert"),
    ):
        with pytest.raises(UsageError) as caught:
            made()
        assert str(caught.value).startswith(message)
