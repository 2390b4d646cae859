"""Connections in this process, round an App that answers at once: whose turn it is, and when one is ended."""

import asyncio
import socket

from deploy.runtime.http.connection import Connection
from deploy.runtime.http.limits import ConnectionTable, Limits
from deploy.runtime.http.messages import HttpReply, HttpRequest, SendReply
from deploy.runtime.scheduling.memory_budget import MemoryBudget
from tests.deploy.runtime.server import PATIENCE_S, request


class Plain:
    """An App that answers at once, every time with `size` bytes."""

    check, draining = None, False

    def __init__(self, size: int) -> None:
        self.connections = ConnectionTable()
        self.budget = MemoryBudget()
        self.asked: list[str] = []
        self._size = size

    def answer(self, request: HttpRequest, send: SendReply) -> None:
        self.asked.append(request.path)
        send(HttpReply(200, bytes(self._size)))

    def count_refusal(self, status: int, reason: str) -> None:
        raise AssertionError(reason)

    def count_rejection(self, reason: str) -> None:
        raise AssertionError(reason)


def test_a_client_that_asks_much_at_once_does_not_make_others_wait() -> None:
    async def asked() -> list[str]:
        loop, app = asyncio.get_running_loop(), Plain(1)
        server = await loop.create_server(lambda: Connection(app, Limits(), loop.time), "127.0.0.1", 0)
        place = server.sockets[0].getsockname()
        with socket.create_connection(place) as greedy, socket.create_connection(place) as modest:
            greedy.sendall(request("GET", "/greedy") * 400)
            greedy.shutdown(socket.SHUT_WR)
            modest.sendall(request("GET", "/modest"))
            limit = loop.time() + PATIENCE_S
            while len(app.asked) < 401 and loop.time() < limit:
                await asyncio.sleep(0.01)
        server.close()
        return app.asked

    found = asyncio.run(asked())
    assert found.count("/greedy") == 400
    assert found.index("/modest") < 100


def test_a_client_that_asks_once_and_never_reads_is_cut_off() -> None:
    """What is left to send is less than what asyncio calls much: it tells the connection nothing."""

    async def held() -> int:
        loop, app = asyncio.get_running_loop(), Plain(50_000)
        with socket.socket() as listening, socket.socket() as client:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            listening.bind(("127.0.0.1", 0))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            server = await loop.create_server(lambda: Connection(app, Limits(sender_s=0.1), loop.time), sock=listening)
            client.connect(listening.getsockname())
            client.sendall(request("GET", "/", Connection="close"))
            limit = loop.time() + PATIENCE_S
            while not app.asked and loop.time() < limit:
                await asyncio.sleep(0.01)
            assert len(app.connections) == 1
            limit = loop.time() + PATIENCE_S
            while app.connections and loop.time() < limit:
                await asyncio.sleep(0.05)
                for connection in tuple(app.connections):
                    connection.sweep(loop.time())
            server.close()
            return len(app.connections)

    assert asyncio.run(held()) == 0
