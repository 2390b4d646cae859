"""What a connection needs from the server behind it. Knows no sockets."""

from collections.abc import Callable
from typing import Protocol

from deploy.runtime.http.limits import ConnectionTable
from deploy.runtime.http.messages import HttpRequest, SendReply
from deploy.runtime.scheduling.memory_budget import MemoryBudget

HeadCheck = Callable[[bool, bytes, bytes, dict[bytes, bytes]], None]


class App(Protocol):
    """answer() calls `send` once, on the event loop's thread, now or later. check() is called with a request's head,
    before its body: whether the client has a certificate, method, target, headers; it raises HTTPError."""

    connections: ConnectionTable
    budget: MemoryBudget

    @property
    def check(self) -> HeadCheck | None: ...
    @property
    def draining(self) -> bool: ...

    def answer(self, request: HttpRequest, send: SendReply) -> None: ...
    def count_refusal(self, status: int, reason: str) -> None: ...
    def count_rejection(self, reason: str) -> None: ...
