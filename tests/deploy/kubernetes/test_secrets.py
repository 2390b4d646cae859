"""What a person may ask for, and the server's own answers to it."""

import pytest

from deploy.kubernetes.secrets import ClusterAccess, access_from_flags
from deploy.runtime.flags import SERVE
from toolchain.errors import UsageError


def test_only_the_requested_access_control_is_configured() -> None:
    assert access_from_flags(None, None, None, None) == ClusterAccess()
    assert access_from_flags("net.tls", "ca-1", "t", 9090) == ClusterAccess("net.tls", "ca-1", "t", 9090)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("My_Net", None, None, None), "--tls-secret=My_Net: expected the name of a Secret"),
        (("t", "-ca", None, None), "--client-ca-secret=-ca: expected the name of a Secret"),
        ((None, None, "", None), "--token-secret=: expected the name of a Secret"),
        ((None, None, "t" * 254, None), "--token-secret=" + "t" * 254 + ": expected the name of a Secret"),
        ((None, "ca", None, None), "--client-ca-secret=ca: client certificates need TLS; add --tls-secret=NAME"),
        ((None, None, None, 70000), "--admin-port 70000: expected 0 to 65535"),
        ((None, None, None, 8080), "--admin-port=8080: expected a port of its own, such as 9090"),
        ((None, None, None, 0), "--admin-port=0: expected a port of its own, such as 9090"),
    ],
)
def test_impossible_access_flags_are_refused(
    flags: tuple[str | None, str | None, str | None, int | None], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        access_from_flags(*flags)
    assert str(caught.value).startswith(words)


def test_the_server_reads_every_variable() -> None:
    names = {variable["name"] for variable in ClusterAccess("t", "t", "t", 9090).environment}
    assert names == {"TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "TOKEN_FILE", "ADMIN_PORT"}
    assert names <= {variable for _, variable, *_ in SERVE}
