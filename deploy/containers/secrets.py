"""The folder of TLS and token files, under fixed names, that a container gets read-only.

The files are checked with the server's own rules (deploy/runtime) before a container is touched. A key that only the
container's user can read is left for the server to check.
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


SECRETS_PATH = "/secrets"  # in the container
CERT, KEY, CLIENT_CA, TOKENS = "tls.crt", "tls.key", "client-ca.crt", "tokens"
VARIABLES = {CERT: "TLS_CERT", KEY: "TLS_KEY", CLIENT_CA: "TLS_CLIENT_CA", TOKENS: "TOKEN_FILE"}


@dataclass(frozen=True)
class SecretFolder:
    """folder: resolved, as the engine needs it; names: the keys of VARIABLES that exist in it."""

    folder: Path
    names: tuple[str, ...]

    def file(self, name: str) -> Path | None:
        return self.folder / name if name in self.names else None

    @property
    def environment(self) -> dict[str, str]:
        """The server's environment variables."""
        return secret_environment(self.names)

    @property
    def tls(self) -> TlsFiles | None:
        if CERT not in self.names:
            return None
        return TlsFiles(self.folder / CERT, self.folder / KEY, self.file(CLIENT_CA))


def secret_environment(names: tuple[str, ...]) -> dict[str, str]:
    return {VARIABLES[name]: f"{SECRETS_PATH}/{name}" for name in names}


def read_secret_folder(folder: Path) -> SecretFolder:
    """The checked folder; UsageError for files that a server could not use or a client would refuse."""
    try:
        names = tuple(sorted({file.name for file in folder.iterdir()} & set(VARIABLES)))
    except OSError as error:
        raise UsageError(f"--secrets {folder}: cannot be read ({error.strerror}); expected a folder") from error
    if not names:
        raise UsageError(f"--secrets {folder}: expected some of {', '.join(VARIABLES)}, found none")
    for name, needed in ((CERT, KEY), (KEY, CERT), (CLIENT_CA, CERT)):
        if name in names and needed not in names:
            raise UsageError(f"--secrets {folder}: {needed} is missing; {name} needs it")
    folder_secrets = SecretFolder(folder.resolve(), names)
    for name in names:
        _check_file(folder_secrets, name)
    try:
        _check_content(folder_secrets)
    except UsageError as error:
        raise UsageError(f"--secrets: {_without_flag(str(error))}") from error
    for text in _warnings(folder_secrets):
        logger.info(f"secrets: {_without_flag(text)}")
    return folder_secrets


def _check_file(secrets: SecretFolder, name: str) -> None:
    place = secrets.folder / name
    target = place.resolve()
    if not target.is_relative_to(secrets.folder):
        raise UsageError(f"--secrets: {place} is a link to {target}, which a container would not see; copy the file")
    if not target.is_file():
        raise UsageError(f"--secrets: {place}: expected a file")
    if name != KEY and not os.access(target, os.R_OK):
        raise UsageError(
            f"--secrets: {place}: you may not read it, but the readiness check needs it; use sudo or chmod"
        )


def _check_content(secrets: SecretFolder) -> None:
    tls, tokens = secrets.tls, secrets.file(TOKENS)
    if tls is not None and os.access(tls.key, os.R_OK):
        server_context(tls)
    if tls is not None and (end := expiry(tls.cert)) < datetime.now(UTC):
        raise UsageError(f"--tls-cert {tls.cert}: expired on {end:%Y-%m-%d %H:%M} UTC; clients refuse it; renew it")
    if tokens is not None:
        token_digests(tokens)


def _warnings(secrets: SecretFolder) -> list[str]:
    tokens = secrets.file(TOKENS)
    return [*(warnings(secrets.tls) if secrets.tls else ()), *(readability_warnings(FLAG, tokens) if tokens else ())]


def _without_flag(text: str) -> str:
    """Drop the flag of the server with which its messages begin: here nobody typed it."""
    return text.partition(" ")[2]
