"""One port: its connections, with or without TLS, and the checks that a request must pass before the router sees it.

A server has one port, or two: with an admin port, metrics and control are only there, and inference only on the other.
They share the router and its counters, but not the limit on connections: many clients cannot shut an operator out.
"""

import asyncio
from collections.abc import Callable

import msgspec

from deploy.runtime.http.access import AccessRules
from deploy.runtime.http.app import HeadCheck
from deploy.runtime.http.connection import Connection
from deploy.runtime.http.limits import ConnectionTable, Limits
from deploy.runtime.http.routes import Router
from deploy.runtime.http.tls_handshake import TlsHandshake
from deploy.runtime.security.reload import Reloadable
from deploy.runtime.security.tls import ServingContext

ADMIN_BODY_BYTES, ADMIN_CONNECTIONS = 1 << 20, 32


def admin_limits(limits: Limits) -> Limits:
    return msgspec.structs.replace(
        limits,
        body_bytes=min(ADMIN_BODY_BYTES, limits.body_bytes),
        connections=min(ADMIN_CONNECTIONS, limits.connections),
        connections_per_address=min(ADMIN_CONNECTIONS // 2, limits.connections_per_address),
    )


class Listener:
    """The App of its connections; protocol() makes a connection for asyncio."""

    def __init__(
        self,
        endpoints: Router,
        connections: ConnectionTable,
        rules: AccessRules,
        limits: Limits,
        tls: Reloadable[ServingContext] | None,
        clock: Callable[[], float],
    ) -> None:
        self._endpoints, self._limits, self._tls, self._clock = endpoints, limits, tls, clock
        self.connections = connections
        self.check: HeadCheck | None = rules.check if rules.has_rules else None
        self.budget = endpoints.budget
        self.answer, self.count_refusal = endpoints.answer, endpoints.count_refusal
        self.count_rejection = endpoints.count_rejection

    @property
    def draining(self) -> bool:
        return self._endpoints.draining

    def protocol(self) -> asyncio.BaseProtocol:
        connection = Connection(self, self._limits, self._clock)
        if self._tls is None:
            return connection
        return TlsHandshake(connection, self._tls.value.context, self._limits, self._endpoints.count_failed_handshake)
