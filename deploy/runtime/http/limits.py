"""Limits on what all clients together may have: connections, and bytes on their way. Knows no bytes and no sockets.

A client is an address here, since nothing else can be known of it before it has sent anything: an IPv4 address, or a
/64 of IPv6, which one client has to itself.
"""

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from typing import Protocol

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

    def __hash__(self) -> int: ...
    @property
    def deadline(self) -> float: ...
    @property
    def client(self) -> str | None: ...
    @property
    def idle_rank(self) -> int | None: ...
    def drop(self) -> None: ...
    def close_if_idle(self) -> None: ...
    def sweep(self, now: float) -> None: ...


class ConnectionTable:
    """The open connections, the oldest first, and how many of them each client has."""

    def __init__(self) -> None:
        self._peers: dict[Peer, str | None] = {}
        self._counts: Counter[str | None] = Counter()

    def __len__(self) -> int:
        return len(self._peers)

    def __iter__(self) -> Iterator[Peer]:
        return iter(tuple(self._peers))

    def add(self, peer: Peer) -> None:
        if peer not in self._peers:
            self._peers[peer] = peer.client
            self._counts[peer.client] += 1

    def discard(self, peer: Peer) -> None:
        if peer in self._peers:
            client = self._peers.pop(peer)
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def make_room(self, newcomer: Peer, limits: Limits) -> None:
        """Where there are too many, drop the one that has been doing nothing for the longest time; one of the same
        client where that has too many. Neither idle clients nor one address can so shut others out. HTTPError 503 when
        every connection is in use."""
        client, share = newcomer.client, limits.connections_per_address
        is_crowd = client is not None and self._counts[client] > share
        if not is_crowd and len(self) <= limits.connections:
            return
        first = self._idlest(newcomer, is_crowd)
        if first is None:
            words = f"{share} connections from {client}" if is_crowd else f"{limits.connections} connections"
            raise HTTPError(503, "connections", f"more than {words}; try later")
        first.drop()
        self.discard(first)

    def _idlest(self, newcomer: Peer, is_crowd: bool) -> Peer | None:
        """The oldest one without a request, else the one that has waited longest between two; None: none is idle."""
        waiting: Peer | None = None
        for peer, client in self._peers.items():
            if peer is newcomer or (is_crowd and client != newcomer.client) or (rank := peer.idle_rank) is None:
                continue
            if rank == 0:
                return peer
            if waiting is None or peer.deadline < waiting.deadline:
                waiting = peer
        return waiting


def check_body(size: int, limits: Limits) -> None:
    if size > limits.body_bytes:
        raise HTTPError(
            413, "body_too_large", f"expected a body of at most {limits.body_bytes} bytes, got {size} bytes"
        )
