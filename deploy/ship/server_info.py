"""What each edge server is: asked of its kernel through ssh, and of its engine. Nothing of ours need be there."""

import msgspec

from deploy.servers.docker_server import Reached, reached
from deploy.servers.inventory import Server
from deploy.servers.server import told
from deploy.servers.ssh import Shell
from deploy.ship.ship import Asked, residents, together
from toolchain.errors import ToolchainError

WORTH_TELLING = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
ASK = (
    "grep -m1 '^model name' /proc/cpuinfo || echo; grep -m1 '^flags' /proc/cpuinfo || echo; "
    "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true"
)


class Facts(msgspec.Struct, frozen=True):
    """error: why nothing else is known. gpu: name and driver, as nvidia-smi tells them, "" for none."""

    server: str
    address: str
    kind: str
    error: str = ""
    cpu: str = ""
    features: tuple[str, ...] = ()
    gpu: str = ""
    cores: int = 0
    memory_bytes: int = 0
    free_bytes: int = 0
    engine: str = ""
    kernel: str = ""
    serves: tuple[str, ...] = ()


def facts(asked: Asked) -> list[Facts]:
    """Of the chosen servers, several asked at once."""

    def ask(server: Server) -> Facts:
        try:
            with reached(server) as there:
                return _facts(there)
        except (ToolchainError, OSError) as error:
            return Facts(server.name, server.address, server.kind, error=told(error))

    return together(asked, ask)


def _facts(there: Reached) -> Facts:
    server, shell = there.server, Shell(there.server.address)
    info = there.client.info()
    said = [*shell.run(ASK).splitlines(), "", "", ""]
    flags = set(said[1].partition(":")[2].split())
    live = tuple(f"{one.model} {one.live or 'nothing'}" for one in residents(there))
    return Facts(
        server.name,
        server.address,
        server.kind,
        cpu=said[0].partition(":")[2].strip(),
        features=tuple(one for one in WORTH_TELLING if one in flags),
        gpu=said[2].strip(),
        cores=info["NCPU"],
        memory_bytes=info["MemTotal"],
        free_bytes=shell.free_bytes(info["DockerRootDir"]),
        engine=info["ServerVersion"],
        kernel=info["KernelVersion"],
        serves=live,
    )
