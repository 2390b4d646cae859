"""Three times a server's capacity in an open loop: does every request get a reply, and are accepted ones in time?

Requests are sent when they are due, whatever happened to earlier ones; latencies count from the due time. The null
engine only sleeps, so the server and this client have the cores to themselves.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks import logger
from benchmarks.rows import Row, row
from benchmarks.serving.clients.http1 import request
from benchmarks.soak.cases import INFER
from benchmarks.soak.growth import growth
from benchmarks.soak.server_process import ServerProcess, run_server

DELAY_MS, GOAL_MS, TIMES = 10.0, 100.0, 3  # delays of more than a few milliseconds are not batched
MEASURED_S, PATIENCE_S, EVERY_S = 3.0, 30.0, 1.0
REQUEST = request("POST", INFER, bytes(192), {"Inference-Header-Content-Length": "0"})
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load:
    """statuses: HTTP's, `lost` for a request without a reply; latencies_s: of those with status 200."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[Connection] = []
        self.statuses: Counter[str] = Counter()
        self.latencies_s: list[float] = []

    async def ask(self, due: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                status = await self._send()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
            status = f"lost ({type(error).__name__})"
        self.statuses[status] += 1
        if status == "200":
            self.latencies_s.append(time.perf_counter() - due)

    async def _send(self) -> str:
        reader, writer = connection = self._idle_connection() or await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(REQUEST)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r", 1)[0]))
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append(connection)
        return head[9:12].decode()

    def _idle_connection(self) -> Connection | None:
        """The newest connection that the server has not closed; it may close those that were idle for 75 s."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def capacity_per_s(port: int, clients: int = 4) -> float:
    """Replies per second in a closed loop with enough clients to keep the engine busy."""
    load, end = Load(port), time.perf_counter() + MEASURED_S

    async def client() -> None:
        while (now := time.perf_counter()) < end:
            await load.ask(now)

    await asyncio.gather(*(client() for _ in range(clients)))
    load.close()
    return load.statuses["200"] / MEASURED_S


async def send_overload(port: int, per_s: float, seconds: float, server: ServerProcess) -> tuple[Load, list[float]]:
    """The results of the requests, and the server's memory in MB during the run."""
    load, memory, began = Load(port), list[float](), time.perf_counter()
    tasks: set[asyncio.Task[None]] = set()
    for number in range(int(per_s * seconds)):
        due = began + number / per_s
        if (wait_s := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_s)
        task = asyncio.create_task(load.ask(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        if due - began >= len(memory) * EVERY_S and server.is_alive:
            memory.append(server.memory_mb)
    await asyncio.gather(*tasks)
    load.close()
    return load, memory


def rows(load: Load, memory: Sequence[float], alive: bool, faults: int, note: str) -> list[Row]:
    answers = ", ".join(f"{what}: {many}" for what, many in sorted(load.statuses.items()))
    other = sum(many for status, many in load.statuses.items() if status not in ("200", "503", "504"))
    ordered = sorted(load.latencies_s)
    p99_ms = ordered[int(len(ordered) * 0.99)] * 1e3 if ordered else None
    return [
        row("overload: requests without an answer of 200, 503 or 504", other, "<=", 0, "", f"{note}; {answers}"),
        row("overload: p99 of the accepted", p99_ms, "<=", 2 * GOAL_MS, "ms", f"goal {GOAL_MS:g} ms"),
        row("overload: accepted, as a share of capacity", _share(load), ">=", 0.8, "", "sheds the rest"),
        row("overload: memory, at most: last fifth to the first two", growth(memory), "<=", 1.05, ""),
        row("overload: the server is alive, no faults in its log", int(alive) - faults, ">=", 1, ""),
    ]


def _share(load: Load) -> float:
    return load.statuses["200"] * TIMES / max(1, load.statuses.total())


def overload_rows(seconds: float) -> list[Row]:
    """The rows of one run."""
    with (
        TemporaryDirectory(prefix="soak-") as folder,
        run_server(Path(folder), f"--latency-goal-ms={GOAL_MS:g}", delay_ms=DELAY_MS) as (server, port, _),
    ):
        can = asyncio.run(capacity_per_s(port))
        note = f"{TIMES} times {can:.0f} a second for {seconds:g} s"
        logger.info(f"overload: {note}")
        load, memory = asyncio.run(send_overload(port, TIMES * can, seconds, server))
        return rows(load, memory, server.is_alive, len(server.faults()), note)
