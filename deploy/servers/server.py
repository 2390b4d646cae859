"""What one edge server can be asked, whatever carries the question: ssh and Docker (dockersite.py), or a test's memory.

Knows nothing of the order in which it is asked; rollout.py does.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

from toolchain.errors import DockerError, ToolchainError

RolloutVerdict = Literal["passed", "regressed", "inconclusive", "not comparable", "first", "not asked"]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class ShipError(DockerError):
    """The release is not on this server; what served before still does."""


class LockedError(ShipError):
    """Somebody else is at it."""


class LockHolder(msgspec.Struct, frozen=True):
    """Who holds a server's lock. holder: of one run of the tool; pid and boot tell on its own host whether it lives."""

    holder: str
    who: str
    host: str
    pid: int
    boot: str
    since: str
    why: str


class ServerState(msgspec.Struct, frozen=True):
    """What is on the server of one model. live: the release that may open the door, "" for none; containers: whether
    each release's container runs and is healthy; images: the releases whose image is there, the newest last."""

    live: str
    containers: Mapping[str, bool]
    images: tuple[str, ...] = ()

    @property
    def is_serving(self) -> bool:
        return self.containers.get(self.live, False)


class GateResult(msgspec.Struct, frozen=True):
    """What the gate said on the device, and why."""

    verdict: RolloutVerdict
    reason: str


class AuditEntry(msgspec.Struct, frozen=True):
    """A line of the server's audit."""

    at: str
    who: str
    what: str
    release: str
    outcome: str
    reason: str = ""


class EdgeServer(Protocol):
    """One server, one model. Every call may raise ToolchainError: it is then as if it had not been made, or half of it;
    all of them may be made again."""

    name: str

    def lock(self, holder: LockHolder) -> None:
        """LockedError while another holds it."""

    def unlock(self, holder: LockHolder) -> None: ...
    def read_state(self) -> ServerState: ...
    def check(self, release: str) -> None:
        """ShipError: another kind of device, no room."""

    def missing_layers(self) -> tuple[int, int]:
        """(layers of the release that are not there, their bytes unpacked)."""
        ...

    def send(self, release: str) -> int:
        """Bring the image there, only what is missing; bytes sent."""
        ...

    def verify(self, release: str) -> None:
        """ShipError: the image there is not what was signed here."""

    def start(self, release: str) -> None:
        """Its container, beside what serves, not opening the door."""

    def wait_healthy(self, release: str) -> None:
        """Until it is certified on the device and ready; ShipError with its own words if it never will be."""

    def gate(self, release: str, against: str) -> GateResult: ...
    def switch(self, release: str) -> None:
        """Name it as the one that may open: one write, done or not done."""

    def stop(self, release: str) -> None:
        """Drain and remove its container; nothing when there is none."""

    def prune(self, keep: frozenset[str]) -> None:
        """Remove the images of other releases."""

    def append_audit(self, line: AuditEntry) -> None: ...


def format_error(error: BaseException) -> str:
    """An error of any kind in a line."""
    words = " ".join(str(error).split())
    return words if isinstance(error, ToolchainError) and words else f"{type(error).__name__}: {words}"
