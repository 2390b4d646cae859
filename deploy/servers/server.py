"""The operations on one edge server, over ssh and Docker (docker_server.py) or simulated in a test.

The order of the operations is the matter of ship/rollout.py.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, Protocol

import msgspec

from toolchain.errors import DockerError, ToolchainError, printable

RolloutVerdict = Literal["passed", "regressed", "inconclusive", "not comparable", "first", "not asked"]


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


class ShipError(DockerError):
    """The release is not live on this server; the one that served before still is."""


class LockedError(ShipError):
    """Another run holds the lock of this server."""


class DowngradeError(ShipError):
    """The release is older than what was shipped to this server."""


class DamagedSignatureError(ShipError):
    """The signature kept there of `release` cannot be read: whether another is older cannot be known."""

    def __init__(self, message: str, release: str) -> None:
        super().__init__(message)
        self.release = release


class LockHolder(msgspec.Struct, frozen=True):
    """Who holds a server's lock. holder: an id of the run; the rest shows where it runs whether it is alive
    (lock_holder.py); "" for what cannot be read there, or was not recorded by an older version."""

    holder: str
    who: str
    host: str
    pid: int
    boot: str
    since: str
    why: str
    machine: str = ""
    namespace: str = ""
    started: str = ""


class ServerState(msgspec.Struct, frozen=True):
    """What a server has of one model. live: the active release, "" for none; containers: whether the container of each
    release runs and is healthy; images: the releases whose image is there, newest last."""

    live: str
    containers: Mapping[str, bool]
    images: tuple[str, ...] = ()

    @property
    def is_serving(self) -> bool:
        return self.containers.get(self.live, False)


class GateResult(msgspec.Struct, frozen=True):
    """The verdict of the gate on the device, and its reason."""

    verdict: RolloutVerdict
    reason: str


class AuditEntry(msgspec.Struct, frozen=True):
    """A line of the server's audit log. number: of the line, from 1; previous: digest of all lines before it; server:
    its name in the inventory; key, signature: of the toolchain that wrote it (servers/audit_log.py).

    Format history
    1  first: no number, digest or signature
    2  chained and signed
    """

    at: str
    who: str
    what: str
    release: str
    outcome: str
    reason: str = ""
    number: int = 0
    previous: str = ""
    server: str = ""
    key: str = ""
    signature: str = ""
    format: int = 1


class EdgeServer(Protocol):
    """One server, one model. Any call may raise ToolchainError, having done all, half or nothing of its work; every
    call may be repeated."""

    name: str

    def lock(self, holder: LockHolder) -> None:
        """LockedError while another run holds it."""

    def unlock(self, holder: LockHolder) -> None: ...
    def read_state(self) -> ServerState: ...
    def check(self, release: str) -> None:
        """ShipError: the wrong kind of device, an untrusted signature, or a release that differs from the one there."""

    def newer_release(self, release: str) -> str:
        """The release that serves there or was shipped there last, if it was signed after `release`; otherwise "".
        DamagedSignatureError: its signature there cannot be read."""
        ...

    def missing_layers(self) -> tuple[int, int]:
        """(number of layers that the server lacks, their unpacked size in bytes)."""
        ...

    def send(self, release: str) -> int:
        """Send the missing layers of the image; the bytes sent."""
        ...

    def verify(self, release: str) -> None:
        """ShipError: the image there differs from the one signed here."""

    def start(self, release: str) -> None:
        """Start its container next to the active one, without traffic."""

    def wait_healthy(self, release: str) -> None:
        """Wait until it is certified on the device and ready; ShipError with its message if it never will be."""

    def gate(self, release: str, against: str) -> GateResult: ...
    def switch(self, release: str) -> None:
        """Make it the active release: one atomic write."""

    def stop(self, release: str) -> None:
        """Drain and remove its container, if there is one."""

    def prune(self, keep: frozenset[str]) -> None:
        """Remove the images of other releases."""

    def append_audit(self, line: AuditEntry) -> None: ...


def format_error(error: BaseException) -> str:
    """An error of any kind as one line for a terminal."""
    words = printable(" ".join(str(error).split()))
    return words if isinstance(error, ToolchainError) and words else f"{type(error).__name__}: {words}"
