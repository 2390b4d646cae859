"""The edge servers and how a release comes to them: a TOML file as frozen structs. Strict: a key that is not known, a
server that is named twice or a wave that holds nobody is told in a line, with the file and the place.
"""

import logging
import re
import tomllib
from collections.abc import Iterator, Sequence
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from deploy.containers.secrets import CERT, CLIENT_CA, KEY, TOKENS, secret_environment
from deploy.docker.ssh import is_address, is_socket_path
from toolchain.errors import UsageError
from toolchain.text_files import read_text_file

logger = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
SecretKind = Literal["tls", "client-ca", "tokens"]
SECRET_FILES: dict[SecretKind, tuple[str, ...]] = {"tls": (CERT, KEY), "client-ca": (CLIENT_CA,), "tokens": (TOKENS,)}


class ServerConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """address: HOST, USER@HOST or a name of ~/.ssh/config; kind: of its device, which decides the image that it gets;
    port: that clients know; socket: of its Docker Engine; secrets: a folder on that server; closed_by: what is in
    it, by fixed names. The address `local` is this very machine, without ssh."""

    name: str
    address: str
    kind: Literal["cpu", "gpu"] = "cpu"
    port: Port = 8080
    socket: str = "/var/run/docker.sock"
    secrets: str = ""
    closed_by: tuple[SecretKind, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether clients need neither a token nor a certificate."""
        return not {"tokens", "client-ca"} & set(self.closed_by)

    @property
    def environment(self) -> dict[str, str]:
        """What a server there is told of its secrets."""
        return secret_environment(tuple(name for how in self.closed_by for name in SECRET_FILES[how]))


class RolloutPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """waves: how many servers each holds, as counts or as shares of all; after them the rest; failures: servers that
    may fail before no further wave is begun; parallel: at once within a wave; inconclusive: whether a release goes
    live where its gate is inconclusive; minutes: of each gate; budget: see `toolchain gate`; registry: HOST/PATH
    that images go through instead of ssh, "" for none."""

    waves: tuple[Count | Share, ...] = (1,)
    failures: Annotated[int, msgspec.Meta(ge=0)] = 0
    parallel: Count = 4
    inconclusive: Literal["stop", "go"] = "stop"
    minutes: Annotated[float, msgspec.Meta(gt=0, le=60)] = 5.0
    budget: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    registry: str = ""


class Inventory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    server: Annotated[tuple[ServerConfig, ...], msgspec.Meta(min_length=1)]
    policy: RolloutPolicy = RolloutPolicy()


def read_inventory(place: Path) -> Inventory:
    """UsageError in a line."""
    try:
        found = msgspec.convert(_current_keys(tomllib.loads(read_text_file(place, UsageError)), place), Inventory)
    except OSError as error:
        raise UsageError(f"{place}: cannot be read ({error.strerror}); see examples/inventory.toml") from error
    except (ValueError, RecursionError, msgspec.ValidationError) as error:
        raise UsageError(f"{place}: {error}; see examples/inventory.toml") from error
    for problem in _problems(found):
        raise UsageError(f"{place}: {problem}")
    return found


def _current_keys(document: dict[str, Any], place: Path) -> dict[str, Any]:
    """`document` with the key of an older inventory under its new name."""
    policy = document.get("policy")
    if isinstance(policy, dict) and "unsure" in policy:
        logger.warning(f"{place}: [policy] unsure is now inconclusive; the old key will not work in the next release")
        policy["inconclusive"] = policy.pop("unsure")
    return document


def _problems(found: Inventory) -> Iterator[str]:
    names = [server.name for server in found.server]
    for server in found.server:
        if not NAME.fullmatch(server.name):
            yield f"server '{server.name}': expected letters, digits, and . _ - between"
        if names.count(server.name) > 1:
            yield f"server '{server.name}' is there {names.count(server.name)} times; names must differ"
        if not is_address(server.address):
            yield f"server '{server.name}': address '{server.address}': expected HOST, USER@HOST or a name of ~/.ssh"
        if not is_socket_path(server.socket):
            yield f"server '{server.name}': socket '{server.socket}': expected a path from / on, without spaces or :"
        yield from _secret_problems(server)
    places = [(server.address, server.socket, server.port) for server in found.server]
    for server, place in zip(found.server, places, strict=True):
        if places.count(place) > 1:
            yield f"server '{server.name}': another has the same address, socket and port"


def _secret_problems(server: ServerConfig) -> Iterator[str]:
    if bool(server.secrets) != bool(server.closed_by):
        yield f"server '{server.name}': secrets = 'FOLDER' and closed_by = ['tls', 'tokens'] go together"
    if server.secrets and not server.secrets.startswith("/"):
        yield f"server '{server.name}': secrets '{server.secrets}': expected a folder there, from / on"
    if "client-ca" in server.closed_by and "tls" not in server.closed_by:
        yield f"server '{server.name}': closed_by: client certificates need 'tls' too"


def select_servers(found: Inventory, names: Sequence[str]) -> tuple[ServerConfig, ...]:
    """The servers called `names`, in the inventory's order; all without names. UsageError for one that is not there."""
    known = [server.name for server in found.server]
    for name in names:
        if name not in known:
            raise UsageError(f"no server '{name}' in the inventory; it has: {', '.join(known)}")
    return tuple(server for server in found.server if not names or server.name in names)


def split_into_waves(servers: Sequence[ServerConfig], waves: Sequence[float]) -> list[tuple[ServerConfig, ...]]:
    """In the servers' order; a share is of all of them, rounded up; after the waves comes one with whoever is left."""
    left, found = list(servers), list[tuple[ServerConfig, ...]]()
    for size in (*waves, len(servers)):
        count = size if isinstance(size, int) else ceil(size * len(servers))
        found.append(tuple(left[:count]))
        del left[:count]
    return [wave for wave in found if wave]
