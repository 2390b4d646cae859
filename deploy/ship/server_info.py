"""Hardware and software of each edge server, read from its kernel over ssh and from its engine."""

import msgspec

from deploy.servers.answers import EngineInfo, convert_answer
from deploy.servers.docker_server import ServerConnection, connect_server
from deploy.servers.inventory import ServerConfig
from deploy.servers.server import format_error
from deploy.servers.ssh import Shell
from deploy.ship.ship import ShipRequest, deployed_models, query_servers
from toolchain.errors import ToolchainError

SHOWN_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
QUERY = (
    "grep -m1 '^model name' /proc/cpuinfo || echo; grep -m1 '^flags' /proc/cpuinfo || echo; "
    "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true"
)


class ServerInfo(msgspec.Struct, frozen=True):
    """error: why nothing else is known, "" if it is. gpu: name and driver as nvidia-smi prints them, "" for none."""

    server: str
    address: str
    kind: str
    error: str = ""
    cpu: str = ""
    features: tuple[str, ...] = ()
    gpu: str = ""
    cores: int = 0
    memory_bytes: int = 0
    free_bytes: int | None = None
    engine: str = ""
    kernel: str = ""
    serves: tuple[str, ...] = ()


def read_server_info(request: ShipRequest) -> list[ServerInfo]:
    """The selected servers, several queried at once."""

    def ask(server: ServerConfig) -> ServerInfo:
        try:
            with connect_server(server) as there:
                return _read_info(there)
        except (ToolchainError, OSError) as error:
            return ServerInfo(server.name, server.address, server.kind, error=format_error(error))

    return query_servers(request, ask)


def _read_info(there: ServerConnection) -> ServerInfo:
    server, shell = there.server, Shell(there.server.address)
    info = convert_answer(there.client.info(), EngineInfo, f"{server.name}: /info of its engine")
    said = [*shell.run(QUERY).splitlines(), "", "", ""]
    flags = set(said[1].partition(":")[2].split())
    live = tuple(f"{one.model} {one.live or 'nothing'}" for one in deployed_models(there))
    return ServerInfo(
        server.name,
        server.address,
        server.kind,
        cpu=said[0].partition(":")[2].strip(),
        features=tuple(one for one in SHOWN_FEATURES if one in flags),
        gpu=said[2].strip(),
        cores=info.cores,
        memory_bytes=info.mem_total,
        free_bytes=shell.free_bytes(info.docker_root_dir),
        engine=info.server_version,
        kernel=info.kernel_version,
        serves=live,
    )
