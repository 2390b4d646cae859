"""Limits on the connections and the memory of all clients together. Knows no bytes and no sockets."""

from typing import Protocol, TypeVar

import msgspec

from deploy.runtime.http.messages import HTTPError

SMALL_BYTES = 256 << 10  # such bodies always pass: the limit on connections bounds them


class Limits(msgspec.Struct, frozen=True):
    """sender_s: time to send a head, and a body in addition to its size at 64 kB/s. held_bytes: the bodies of all
    connections, from their first byte to the reply."""

    body_bytes: int = 64 << 20
    held_bytes: int = 512 << 20
    head_bytes: int = 16 << 10
    sender_s: float = 10.0
    idle_s: float = 75.0
    connections: int = 512


class Peer(Protocol):
    """A connection, as other connections see it."""

    deadline: float

    @property
    def is_idle(self) -> bool: ...
    @property
    def held_bytes(self) -> int: ...
    def close_if_idle(self) -> None: ...
    def sweep(self, now: float) -> None: ...


PeerT = TypeVar("PeerT", bound=Peer)


def make_room(peers: set[PeerT], newcomer: PeerT, limits: Limits) -> None:
    """Close an idle connection where there are too many, so that idle clients cannot shut others out; HTTPError 503
    when every connection is in use."""
    if len(peers) <= limits.connections:
        return
    idle = [peer for peer in peers if peer.is_idle and peer is not newcomer]
    if not idle:
        raise HTTPError(503, "connections", f"more than {limits.connections} connections; try later")
    first = min(idle, key=lambda peer: peer.deadline)
    first.close_if_idle()
    peers.discard(first)


def check_body(size: int, limits: Limits) -> None:
    if size > limits.body_bytes:
        raise HTTPError(
            413, "body_too_large", f"expected a body of at most {limits.body_bytes} bytes, got {size} bytes"
        )


def check_held(peers: set[PeerT], newcomer: PeerT, more: int, limits: Limits) -> None:
    """HTTPError 503 when `more` bytes for `newcomer` would exceed the limit on all bodies."""
    if more + newcomer.held_bytes <= SMALL_BYTES:
        return
    held = more + sum(peer.held_bytes for peer in peers)
    if held > limits.held_bytes:
        words = f"the bodies in flight would hold {held} bytes, the limit is {limits.held_bytes}; try later"
        raise HTTPError(503, "memory", words)
