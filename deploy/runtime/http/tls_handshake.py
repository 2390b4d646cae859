"""A TLS handshake before an HTTP connection: asyncio's own TLS, protected against clients that never finish it.

asyncio reports a client only once its handshake is done; until then nobody would count it, and thousands that never
finish would hold memory. Here a client counts as a connection from the start, as an idle one, so that it is the first
to be closed where there are too many. Each client gets the newest certificate.
"""

import asyncio

# not in asyncio's manual, and the same since 3.11; start_tls(), which is, hands bytes over before a transport
from asyncio.sslproto import SSLProtocol, _SSLProtocolTransport
from collections.abc import Callable
from ssl import SSLContext
from typing import Protocol, cast

from deploy.runtime.http.limits import Limits
from deploy.runtime.http.messages import HTTPError

BUFFER_BYTES = 64 << 10  # of what is read and decrypted at once, and of what waits either way; asyncio: 256 and 512 kB


class SmallBufferProtocol(SSLProtocol):
    """With buffers small enough for 512 connections on a small device."""

    max_size = BUFFER_BYTES


class HandshakeConnection(Protocol):
    """A connection as it is before its handshake: counted, and of no protocol yet."""

    @property
    def transport(self) -> asyncio.Transport: ...
    def register(self, transport: asyncio.BaseTransport) -> None: ...
    def unregister(self) -> None: ...


class TlsHandshake(asyncio.Protocol):
    """The handshake of one connection; on_failure is called with the reason when it fails."""

    def __init__(
        self, connection: HandshakeConnection, context: SSLContext, limits: Limits, on_failure: Callable[[str], None]
    ) -> None:
        self._connection, self._context, self._limits, self._on_failure = connection, context, limits, on_failure

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        try:
            self._connection.register(self._transport)
        except HTTPError as refusal:
            self._connection.unregister()
            self._transport.abort()
            self._on_failure(refusal.reason)
            return
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        done.add_done_callback(self._on_done)
        patience_s = cast("int", self._limits.sender_s)  # its stub knows no fractions
        records = SmallBufferProtocol(
            loop,
            cast("asyncio.BufferedProtocol", self._connection),
            self._context,
            done,
            server_side=True,
            ssl_handshake_timeout=patience_s,
        )
        self._transport.set_protocol(records)
        records.connection_made(self._transport)

    def _on_done(self, done: "asyncio.Future[None]") -> None:
        """asyncio does not call connection_lost() of a connection that was never made."""
        error = done.exception()
        if error is not None or self._transport.is_closing():
            self._connection.unregister()
            self._on_failure(str(error or "closed"))
            return
        made = cast("_SSLProtocolTransport", self._connection.transport)
        made.set_read_buffer_limits(BUFFER_BYTES)
        made.set_write_buffer_limits(BUFFER_BYTES)
