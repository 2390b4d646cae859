"""Bearer tokens from a file (RFC 6750). Knows nothing of HTTP beyond the header's value.

Only digests are kept, and all of them are compared in constant time, so that timing reveals nothing about a token. No
token is ever written to a log or put into a message.
"""

from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from deploy.runtime.logs import Log
from deploy.runtime.security.reload import Reloadable, read_file, readability_warnings
from toolchain.errors import UsageError

FLAG = "--token-file"
MIN_LENGTH = 16
SCHEME = b"bearer "
Digests = tuple[bytes, ...]


class Tokens:
    """The tokens in `file`; poll() reads it again when it has changed. UsageError for a file that cannot be used."""

    def __init__(self, file: Path, log: Log) -> None:
        self._digests: Reloadable[Digests] = Reloadable(
            "tokens", (file,), lambda: token_digests(file), log, lambda: readability_warnings(FLAG, file)
        )

    def poll(self) -> None:
        self._digests.poll()

    def allows(self, authorization: bytes | None) -> bool:
        """Whether the value of an Authorization header (or of gRPC's `authorization`) holds a known token."""
        if authorization is None or authorization[: len(SCHEME)].lower() != SCHEME:
            return False
        shown, found = sha256(authorization[len(SCHEME) :].strip(b" ")).digest(), False
        for known in self._digests.value:
            found |= compare_digest(known, shown)
        return found


def parse_tokens(text: str) -> list[tuple[int, str]]:
    """One token per line, with its line number; empty lines and those that begin with # are skipped."""
    lines = enumerate((line.strip() for line in text.splitlines()), 1)
    return [(number, line) for number, line in lines if line and not line.startswith("#")]


def token_digests(file: Path) -> Digests:
    found = parse_tokens(read_file(FLAG, file))
    if not found:
        raise UsageError(f"{FLAG} {file}: it contains no token; write one per line: openssl rand -hex 32 >> {file}")
    for number, token in found:
        if len(token) < MIN_LENGTH:
            raise UsageError(
                f"{FLAG} {file}: line {number}: expected {MIN_LENGTH} characters or more, got {len(token)}"
            )
        if not all("!" <= letter <= "~" for letter in token):
            raise UsageError(f"{FLAG} {file}: line {number}: expected one token, in ASCII and without spaces")
    return tuple(sha256(token.encode()).digest() for _, token in found)
