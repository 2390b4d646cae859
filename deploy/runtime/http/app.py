"""What a connection asks of the server behind it. Knows no sockets."""

from collections.abc import Callable
from typing import Protocol

from deploy.runtime.http.limits import Peer
from deploy.runtime.http.messages import HttpRequest, SendReply

HeadCheck = Callable[[bool, bytes, bytes, dict[bytes, bytes]], None]


class App(Protocol):
    """What answers. `answer` calls `send` once, on the loop's thread, now or later. `check` is asked once a head is
    here, before its body is: has the client shown a certificate, method, target, headers; it raises a Refusal."""

    connections: set[Peer]

    @property
    def check(self) -> HeadCheck | None: ...
    @property
    def draining(self) -> bool: ...

    def answer(self, request: HttpRequest, send: SendReply) -> None: ...
    def count_refusal(self, status: int, reason: str) -> None: ...
