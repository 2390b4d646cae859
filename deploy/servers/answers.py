"""What comes from a server, decoded in one place: values of known types, or one ShipError of that server.

A server may be out of order, or answer whatever an attacker likes. Whatever it answers, the command goes on with the
other servers; sizes are bounded.
"""

import io
import logging
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar

import docker.errors
import msgspec
import requests
from docker import DockerClient

from deploy.docker.engine import explain_error
from deploy.docker.tar import read_member
from deploy.servers.inventory import ServerConfig
from deploy.servers.server import ShipError
from toolchain.errors import ToolchainError, printable

logger = logging.getLogger(__name__)

FILE_BYTES = 32 << 20  # of what is read from a volume
ANSWER_BYTES = 32 << 20  # of JSON; what streams (logs, archives) is bounded where it is read
Natural = Annotated[int, msgspec.Meta(ge=0)]
AnswerT = TypeVar("AnswerT")


class EngineInfo(msgspec.Struct, frozen=True, rename="pascal"):
    """What an engine says of its machine; "" and 0 for what it does not say."""

    architecture: str = ""
    docker_root_dir: str = ""
    kernel_version: str = ""
    mem_total: Natural = 0
    server_version: str = ""
    cores: Natural = msgspec.field(name="NCPU", default=0)
    runtimes: dict[str, Any] = {}


@contextmanager
def translate_errors(server: ServerConfig, what: str) -> Iterator[None]:
    """Inside the block, anything that goes wrong is one ShipError of that server: it cannot be known in which ways a
    strange answer makes a client's library fail."""
    try:
        yield
    except ToolchainError:
        raise
    except requests.exceptions.InvalidJSONError as error:
        raise _unreadable(server, what, error) from error
    except docker.errors.DockerException as error:
        raise ShipError(f"{server.name}: {what}: {explain_error(error, server.address)}") from error
    except OSError as error:  # requests' own errors: the tunnel was cut
        raise ShipError(f"{server.name}: {what}: the link to its engine is cut ({type(error).__name__})") from error
    except Exception as error:
        raise _unreadable(server, what, error) from error


def bound_answers(client: DockerClient, server: ServerConfig) -> None:
    """Let no answer that is read whole be larger than ANSWER_BYTES: ShipError."""

    def bound(response: requests.Response, **sent: Any) -> None:
        if not sent.get("stream"):
            response.raw = _BoundedBody(response.raw, server)

    client.api.hooks["response"] = [bound]


class _BoundedBody:
    """An answer's body, as urllib3 gives it."""

    def __init__(self, body: Any, server: ServerConfig) -> None:
        self._body, self._server = body, server

    def stream(self, size: int, **options: Any) -> Iterator[bytes]:
        total = 0
        for block in self._body.stream(size, **options):
            total += len(block)
            if total > ANSWER_BYTES:
                raise ShipError(
                    f"{self._server.name}: an answer from its engine is larger than {ANSWER_BYTES >> 20} MB"
                )
            yield block

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


def _unreadable(server: ServerConfig, what: str, error: Exception) -> ShipError:
    logger.debug("%s: %s", server.name, what, exc_info=error)
    words = printable(f"{type(error).__name__}: {' '.join(str(error).split())[:120]}")
    return ShipError(
        f"{server.name}: {what}: an answer from there cannot be read ({words}); try: ssh {server.address} docker info"
    )


def convert_answer(answer: object, kind: type[AnswerT], what: str) -> AnswerT:
    """ShipError: it has another shape."""
    try:
        return msgspec.convert(answer, kind, strict=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ShipError(f"{what} is not what an engine answers ({printable(str(error)[:120])})") from error


def decode_answer(content: bytes, kind: type[AnswerT], what: str) -> AnswerT:
    """JSON that was stored on a server. ShipError: it is none, or has another shape."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ShipError(f"{what} cannot be read ({printable(str(error)[:120])})") from error


def read_files(blocks: Iterable[bytes], what: str) -> dict[str, bytes]:
    """The plain files, by their names without folders, of an archive that an engine sends. ShipError: it is too large,
    or none."""
    content = io.BytesIO()
    for block in blocks:
        content.write(block)
        if content.tell() > FILE_BYTES:
            raise ShipError(f"{what}: more than {FILE_BYTES >> 20} MB; expected small files")
    content.seek(0)
    try:
        with tarfile.open(fileobj=content) as archive:
            return {entry.name.rpartition("/")[2]: read_member(archive, entry) for entry in archive if entry.isreg()}
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise ShipError(f"{what}: the engine's archive of it cannot be read ({printable(str(error)[:80])})") from error
