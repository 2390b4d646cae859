"""The one budget of bytes for what clients make this server hold: HTTP bodies, gRPC messages, images being decoded.

It follows the container's memory limit, since nothing else keeps many clients from ending the process together. Knows
no protocol, and allocates nothing: whoever is about to hold bytes reserves them first, and releases them afterwards.
"""

from collections import Counter
from collections.abc import Hashable
from threading import Lock
from types import TracebackType

from deploy.runtime.scheduling.errors import Unavailable
from toolchain.errors import RequestError

DEFAULT_BYTES = 512 << 20
LIMIT_SHARE = 4  # of the container's limit, the budget is one part in four: engine, interpreter and sockets need theirs


def default_budget_bytes(limit_bytes: int | None) -> int:
    """The budget of a process that may use `limit_bytes` of memory; None: no limit."""
    return DEFAULT_BYTES if limit_bytes is None else min(DEFAULT_BYTES, limit_bytes // LIMIT_SHARE)


class MemoryBudget:
    """For any number of threads. client_bytes: the most for one client; None: the same as for all."""

    def __init__(self, total_bytes: int = DEFAULT_BYTES, client_bytes: int | None = None) -> None:
        self.total_bytes, self.held_bytes = total_bytes, 0
        self.client_bytes = total_bytes if client_bytes is None else client_bytes
        self._clients: Counter[Hashable] = Counter()
        self._lock = Lock()

    def reserve(self, size_bytes: int, client: Hashable = None) -> "Reservation":
        """Reserve bytes for `client` (None: not counted against any); Unavailable where they are not there."""
        reservation = Reservation(self, client)
        reservation.grow(size_bytes)
        return reservation

    def reserve_to_read(self, size_bytes: int, client: Hashable) -> "Reservation":
        """The same for what text takes while it is read; RequestError where it could never be."""
        if size_bytes > self.client_bytes:
            raise RequestError(
                f"numbers as text that take about {size_bytes} bytes to read, of which this server has "
                f"{self.client_bytes} for a client; send the tensors as binary, or fewer of them"
            )
        return self.reserve(size_bytes, client)

    def check(self, size_bytes: int, client: Hashable = None) -> None:
        """Unavailable where the bytes are not there now."""
        held, mine = self.held_bytes + size_bytes, self._clients[client] + size_bytes
        if held > self.total_bytes:
            raise Unavailable(_refusal_text("all clients", held, self.total_bytes), "memory")
        if client is not None and mine > self.client_bytes:
            raise Unavailable(_refusal_text("this client", mine, self.client_bytes), "memory")

    def add(self, size_bytes: int, client: Hashable) -> None:
        """For Reservation, which gives back what it has taken; Unavailable where the bytes are not there."""
        with self._lock:
            self.check(size_bytes, client)
            self.held_bytes += size_bytes
            self._clients[client] += size_bytes

    def subtract(self, size_bytes: int, client: Hashable) -> None:
        with self._lock:
            self.held_bytes -= size_bytes
            self._clients[client] -= size_bytes
            if not self._clients[client]:
                del self._clients[client]


class Reservation:
    """Bytes of a budget; also a context manager. For one thread at a time."""

    def __init__(self, budget: MemoryBudget, client: Hashable) -> None:
        self._budget, self._client = budget, client
        self.size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Unavailable where the further bytes are not there; those that are reserved stay so."""
        self._budget.add(size_bytes, self._client)
        self.size_bytes += size_bytes

    def release(self) -> None:
        """Give everything back; a second time does nothing."""
        self._budget.subtract(self.size_bytes, self._client)
        self.size_bytes = 0

    def __enter__(self) -> "Reservation":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _refusal_text(whose: str, held_bytes: int, limit_bytes: int) -> str:
    return f"the requests of {whose} would hold {held_bytes} bytes, the limit is {limit_bytes}; try later"
