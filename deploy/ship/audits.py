"""The audits of edge servers, read and checked. A server whose audit cannot be read holds up no other."""

import msgspec

from deploy.servers.audit_log import AuditCheck
from deploy.servers.docker_server import connect_server
from deploy.servers.inventory import ServerConfig, select_servers
from deploy.servers.server import AuditEntry, format_error
from deploy.ship.ship import ShipRequest, query_servers, records_of
from toolchain.errors import ToolchainError


class ServerAudit(msgspec.Struct, frozen=True):
    """A server's audit, oldest entry first; error: why it could not be read."""

    server: str
    entries: tuple[AuditEntry, ...] = ()
    error: str = ""


def read_audits(request: ShipRequest, model: str | None) -> list[ServerAudit]:
    """The audit of each server."""

    def ask(server: ServerConfig) -> ServerAudit:
        try:
            with connect_server(server) as there:
                return ServerAudit(server.name, records_of(there, model).read_audit())
        except (ToolchainError, OSError) as error:
            return ServerAudit(server.name, error=format_error(error))

    return query_servers(request, ask)


def check_audits(request: ShipRequest, model: str | None, keys: tuple[str, ...]) -> dict[str, AuditCheck]:
    """Whether the audit of each server is whole, by server. keys: of other toolchains that may write there."""

    def ask(server: ServerConfig) -> AuditCheck:
        try:
            with connect_server(server) as there:
                return records_of(there, model).check_audit(keys)
        except (ToolchainError, OSError) as error:
            return AuditCheck(error=format_error(error))

    servers = select_servers(request.inventory, request.servers)
    return dict(zip((server.name for server in servers), query_servers(request, ask), strict=True))
