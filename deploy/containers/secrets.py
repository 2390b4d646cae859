"""One folder with the files that close a server, by fixed names; a container gets it read-only.

What is in them is judged by the server's own rules (deploy/runtime), before a container is touched. A key that only the
container's user may read is left to the server. Knows no engine.
"""

import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.runtime.security.reload import readability_warnings
from deploy.runtime.security.tls import TlsFiles, expiry, server_context, warnings
from deploy.runtime.security.tokens import FLAG, token_digests
from toolchain.errors import UsageError

logger = logging.getLogger(__name__)


PLACE = "/secrets"  # in the container
CERT, KEY, CLIENT_CA, TOKENS = "tls.crt", "tls.key", "client-ca.crt", "tokens"
VARIABLES = {CERT: "TLS_CERT", KEY: "TLS_KEY", CLIENT_CA: "TLS_CLIENT_CA", TOKENS: "TOKEN_FILE"}


@dataclass(frozen=True)
class SecretFolder:
    """folder: without links, as an engine is told it. names: those of VARIABLES that are there."""

    folder: Path
    names: tuple[str, ...]

    def file(self, name: str) -> Path | None:
        return self.folder / name if name in self.names else None

    @property
    def environment(self) -> dict[str, str]:
        """What the server is told."""
        return environment(self.names)

    @property
    def tls(self) -> TlsFiles | None:
        if CERT not in self.names:
            return None
        return TlsFiles(self.folder / CERT, self.folder / KEY, self.file(CLIENT_CA))


def environment(names: tuple[str, ...]) -> dict[str, str]:
    return {VARIABLES[name]: f"{PLACE}/{name}" for name in names}


def secret_folder(folder: Path) -> SecretFolder:
    """UsageError, one line, for what a server could not use, or a client would refuse."""
    try:
        names = tuple(sorted({one.name for one in folder.iterdir()} & set(VARIABLES)))
    except OSError as error:
        raise UsageError(f"--secrets {folder}: cannot be read ({error.strerror}); expected a folder") from error
    if not names:
        raise UsageError(f"--secrets {folder}: expected some of {', '.join(VARIABLES)} in it, found none of them")
    for one, other in ((CERT, KEY), (KEY, CERT), (CLIENT_CA, CERT)):
        if one in names and other not in names:
            raise UsageError(f"--secrets {folder}: {other} is missing; {one} is of use only beside it")
    found = SecretFolder(folder.resolve(), names)
    for name in names:
        _check_file(found, name)
    try:
        _check_content(found)
    except UsageError as error:
        raise UsageError(f"--secrets: {_without_flag(str(error))}") from error
    for text in _warnings(found):
        logger.info(f"secrets: {_without_flag(text)}")
    return found


def _check_file(found: SecretFolder, name: str) -> None:
    place = found.folder / name
    target = place.resolve()
    if not target.is_relative_to(found.folder):
        raise UsageError(f"--secrets: {place} is a link to {target}, which a container would not see; copy the file")
    if not target.is_file():
        raise UsageError(f"--secrets: {place}: expected a file")
    if name != KEY and not os.access(target, os.R_OK):
        raise UsageError(f"--secrets: {place}: you may not read it, and the container is asked with it; sudo, or chmod")


def _check_content(found: SecretFolder) -> None:
    tls, tokens = found.tls, found.file(TOKENS)
    if tls is not None and os.access(tls.key, os.R_OK):
        server_context(tls)
    if tls is not None and (end := expiry(tls.cert)) < datetime.now(UTC):
        raise UsageError(f"--tls-cert {tls.cert}: expired on {end:%Y-%m-%d %H:%M} UTC; clients refuse it; renew it")
    if tokens is not None:
        token_digests(tokens)


def _warnings(found: SecretFolder) -> list[str]:
    tokens = found.file(TOKENS)
    return [*(warnings(found.tls) if found.tls else ()), *(readability_warnings(FLAG, tokens) if tokens else ())]


def _without_flag(text: str) -> str:
    """The server's words begin with its own flag, which nobody has typed here."""
    return text.partition(" ")[2]
