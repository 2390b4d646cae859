"""Limits on what all clients together may have: connections, and bytes on their way. Knows no bytes and no sockets.

A client is an address here, since nothing else can be known of it before it has sent anything: an IPv4 address, or a
/64 of IPv6, which one client has to itself.
"""

from ipaddress import IPv6Address, ip_address
from math import inf
from typing import Protocol, TypeVar

import msgspec

from deploy.runtime.http.messages import HTTPError
from deploy.runtime.scheduling.memory_budget import DEFAULT_BYTES

SMALL_BYTES = 256 << 10
SLOWEST_BYTES_PER_S = 64 << 10


class Limits(msgspec.Struct, frozen=True):
    """sender_s: time to send a head; for a body, the time in which it must have got on by its share at 64 kB/s.
    held_bytes: the bodies of all connections, as far as they have arrived, until the reply. connections_per_address: 0:
    not limited, since all clients have the address of a proxy."""

    body_bytes: int = 64 << 20
    held_bytes: int = DEFAULT_BYTES
    head_bytes: int = 16 << 10
    sender_s: float = 10.0
    idle_s: float = 75.0
    connections: int = 512
    connections_per_address: int = 256

    @property
    def client_bytes(self) -> int:
        """Of `held_bytes`, the most for one client: half, and at least one whole body."""
        return max(self.held_bytes // 2, min(self.body_bytes, self.held_bytes))

    @property
    def small_bytes(self) -> int:
        """Bodies up to this size always pass: the limit on connections bounds them, and counting takes time."""
        return min(SMALL_BYTES, self.body_bytes, self.held_bytes // self.connections)

    def client_of(self, peername: object) -> str | None:
        """The client at a socket's address; None: not to be counted by address (a Unix socket, or behind a proxy)."""
        if not self.connections_per_address or not isinstance(peername, tuple):
            return None
        return address_group(str(peername[0]))


def address_group(address: str) -> str:
    """The address, or its /64; an IPv4 address that is mapped into IPv6 is itself."""
    found = ip_address(address.partition("%")[0])
    if not isinstance(found, IPv6Address):
        return address
    return str(found.ipv4_mapped or IPv6Address(int(found) >> 64 << 64))


class Peer(Protocol):
    """A connection, as other connections see it. client: see Limits.client_of; idle_rank: which to close first where
    there are too many: 0: no whole request head has arrived on it, 1: between two requests; None: never, since a
    request is in progress."""

    @property
    def deadline(self) -> float: ...
    @property
    def client(self) -> str | None: ...
    @property
    def idle_rank(self) -> int | None: ...
    def drop(self) -> None: ...
    def close_if_idle(self) -> None: ...
    def sweep(self, now: float) -> None: ...


PeerT = TypeVar("PeerT", bound=Peer)


def make_room(peers: set[PeerT], newcomer: PeerT, limits: Limits) -> None:
    """Drop the connection that has been doing nothing for the longest time where there are too many, one of the same
    address where that has too many: neither idle clients nor one address can shut others out. HTTPError 503 when every
    connection is in use."""
    share = limits.connections_per_address or inf
    if len(peers) <= min(share, limits.connections):
        return
    crowd = [peer for peer in peers if peer.client == newcomer.client] if newcomer.client is not None else []
    words = f"more than {limits.connections_per_address} connections from {newcomer.client}; try later"
    if len(crowd) <= share:
        if len(peers) <= limits.connections:
            return
        crowd, words = list(peers), f"more than {limits.connections} connections; try later"
    ranked = [(rank, peer) for peer in crowd if peer is not newcomer and (rank := peer.idle_rank) is not None]
    if not ranked:
        raise HTTPError(503, "connections", words)
    _, first = min(ranked, key=lambda pair: (pair[0], pair[1].deadline))
    first.drop()
    peers.discard(first)


def check_body(size: int, limits: Limits) -> None:
    if size > limits.body_bytes:
        raise HTTPError(
            413, "body_too_large", f"expected a body of at most {limits.body_bytes} bytes, got {size} bytes"
        )
