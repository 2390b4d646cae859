"""What a person may ask for, and the server's own answers to it."""

import pytest

from deploy.kubernetes.secrets import ClusterAccess, access_from_flags
from deploy.runtime.flags import SERVE
from toolchain.errors import UsageError


def test_what_is_asked_for_is_what_is_closed() -> None:
    assert access_from_flags(None, None, None, None) == ClusterAccess()
    assert access_from_flags("net.tls", "ca-1", "t", 9090) == ClusterAccess("net.tls", "ca-1", "t", 9090)


@pytest.mark.parametrize(
    ("asked", "words"),
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
def test_what_no_cluster_would_take_is_refused(
    asked: tuple[str | None, str | None, str | None, int | None], words: str
) -> None:
    with pytest.raises(UsageError) as caught:
        access_from_flags(*asked)
    assert str(caught.value).startswith(words)


def test_every_variable_is_one_that_the_server_reads() -> None:
    told = {one["name"] for one in ClusterAccess("t", "t", "t", 9090).environment}
    assert told == {"TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "TOKEN_FILE", "ADMIN_PORT"}
    assert told <= {variable for _, variable, *_ in SERVE}
