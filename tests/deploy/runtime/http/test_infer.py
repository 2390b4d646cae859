"""Which status an error gets; the rest of rest.py is asked of a server (test_protocol.py)."""

import pytest

from deploy.runtime.http.infer import reply_for
from deploy.runtime.scheduling.errors import ClientDisconnected, DeadlineExceeded, EngineFault
from toolchain.errors import RequestError, ToolchainError


@pytest.mark.parametrize(
    ("error", "status"),
    [(RequestError("x"), 400), (ClientDisconnected("x"), 503), (DeadlineExceeded("x"), 504), (EngineFault("x"), 500)],
)
def test_only_an_engines_fault_is_told_as_ours(error: ToolchainError, status: int) -> None:
    assert reply_for(error).status == status


def test_who_closed_its_half_while_others_waited_is_told_to_keep_it_open() -> None:
    reply = reply_for(ClientDisconnected("the client disconnected"))
    assert reply.body == b'{"error":"the client disconnected: keep your half of the connection open"}'
    assert ("Retry-After", "1") in reply.headers
