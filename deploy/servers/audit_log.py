"""A server's audit: lines of JSON, each with the digest of all lines before it, signed by the toolchain that wrote it.

Earlier versions wrote lines without either; those stay, and the first signed line holds their digest. The digest of the
log as this toolchain saw it last is kept on its own machine: without it, lines that are missing at the end could not be
noticed. Knows no engine.
"""

from base64 import b64encode
from collections.abc import Collection, Iterator
from hashlib import sha256
from pathlib import Path

import msgspec
from nacl.signing import SigningKey

from deploy.images.signatures import public_key, sign_document, verify_document
from deploy.servers.answers import decode_answer
from deploy.servers.inventory import ServerConfig
from deploy.servers.server import AuditEntry, ShipError
from toolchain.errors import RecordError
from toolchain.paths import private_folder
from toolchain.records.certificate import decode_base64, short_key
from toolchain.records.storage import write_atomically

FORMAT = 2
UNREADABLE = "unreadable"  # the outcome of a line that is none


class AuditHead(msgspec.Struct, frozen=True):
    """How far a log was seen. digest: of its first `lines` lines, "" for none."""

    lines: int = 0
    digest: str = ""


class AuditCheck(msgspec.Struct, frozen=True):
    """unsigned: lines from before lines were signed; seen: lines that this toolchain had seen before; problems: a
    sentence for each line that was changed, moved or inserted, and for each place where lines are missing; error: why
    the log could not be read."""

    lines: int = 0
    unsigned: int = 0
    seen: int = 0
    problems: tuple[str, ...] = ()
    error: str = ""

    @property
    def passed(self) -> bool:
        return not self.problems and not self.error


def append_entry(log: bytes, entry: AuditEntry, server: str, private: SigningKey) -> bytes:
    """The log with a further line."""
    lines = split_lines(log)
    unsigned = msgspec.structs.replace(
        entry,
        number=len(lines) + 1,
        previous=chain_digests(lines)[-1],
        server=server,
        key=public_key(private),
        signature="",
        format=FORMAT,
    )
    signature = sign_document(msgspec.json.encode(unsigned), private)
    lines.append(msgspec.json.encode(msgspec.structs.replace(unsigned, signature=signature)))
    return b"".join(line + b"\n" for line in lines)


def split_lines(log: bytes) -> list[bytes]:
    """Without line ends; half a line at the end is a line."""
    lines = log.split(b"\n")
    return lines[:-1] if not lines[-1] else lines


def chain_digests(lines: Collection[bytes]) -> list[str]:
    """Of the first 0, 1, 2, ... lines."""
    digests = [""]
    for line in lines:
        digests.append(_next_digest(digests[-1], line))
    return digests


def _next_digest(previous: str, line: bytes) -> str:
    return sha256(previous.encode() + line).hexdigest()


def read_entries(log: bytes) -> tuple[AuditEntry, ...]:
    """Every line, without checking it; one that cannot be read says so."""
    return tuple(_read_entry(line, number) for number, line in enumerate(split_lines(log), 1))


def _read_entry(line: bytes, number: int) -> AuditEntry:
    try:
        return decode_answer(line, AuditEntry, f"line {number}")
    except ShipError as error:
        return AuditEntry("", "", "", "", UNREADABLE, str(error), number)


def check_log(log: bytes, keys: Collection[str], seen: AuditHead, kept: Path | None = None) -> AuditCheck:
    """Whether the log is whole, as far as its lines and `seen` can tell. keys: of the toolchains that may write it;
    kept: where `seen` is kept, for who has set up the server anew."""
    lines, checker = split_lines(log), _ChainCheck(keys)
    problems = [problem for number, line in enumerate(lines, 1) for problem in checker.check_line(number, line)]
    if log and not log.endswith(b"\n"):
        problems.append(f"line {len(lines)} is cut off")
    cure = f"; if the server was set up anew: rm {kept}" if kept else ""
    if len(lines) < seen.lines:
        problems.append(f"lines {len(lines) + 1} to {seen.lines} are missing, which this machine has seen{cure}")
    elif not problems and not extends(log, seen):
        problems.append(f"lines 1 to {seen.lines} are not those that this machine has seen{cure}")
    return AuditCheck(len(lines), checker.unsigned, seen.lines, tuple(problems))


class _ChainCheck:
    """Goes through the lines of a log. After a problem, what follows from it for the next line is no other problem."""

    def __init__(self, keys: Collection[str]) -> None:
        self._keys, self.unsigned = keys, 0
        self._expected, self._digest = 1, ""
        self._is_signed = self._is_broken = False

    def check_line(self, number: int, line: bytes) -> Iterator[str]:
        entry = _read_entry(line, number)
        problem = self._check_entry(number, entry, line)
        if problem:
            yield problem
        elif entry.format == 1:
            self.unsigned += 1
            self._expected, self._digest = number + 1, _next_digest(self._digest, line)
        else:
            yield from self._check_place(number, entry, line)

    def _check_entry(self, number: int, entry: AuditEntry, line: bytes) -> str:
        """What is wrong with a line by itself."""
        problem = ""
        if entry.outcome == UNREADABLE and not entry.at:
            problem = f"line {number} was changed or cut off: it cannot be read"
        elif entry.format == 1 and self._is_signed:
            problem = f"line {number} was inserted or changed: it is not signed"
        elif entry.format != 1 and not _is_signed_by_its_key(entry, line):
            problem = f"line {number} was changed after it was signed"
        elif entry.format != 1 and entry.key not in self._keys:
            problem = (
                f"line {number} is signed by {short_key(entry.key)}, whose lines are not accepted; if they are: --key"
            )
        self._is_broken = self._is_broken or bool(problem)
        return problem

    def _check_place(self, number: int, entry: AuditEntry, line: bytes) -> Iterator[str]:
        """Whether a line that is sound by itself follows those before it."""
        self._is_signed = True
        if entry.number < self._expected:
            self._is_broken = True
            yield f"line {number} was moved or copied: it was written as line {entry.number}"
            return
        after_problem = self._is_broken and entry.number <= number  # a line that was changed or inserted was told
        if entry.number > self._expected and not after_problem:
            yield f"before line {number}, lines {self._expected} to {entry.number - 1} are missing"
        elif entry.previous != self._digest and not self._is_broken:
            yield f"lines before line {number} were changed: their digest differs"
        self._is_broken = False
        self._expected, self._digest = entry.number + 1, _next_digest(entry.previous, line)


def _is_signed_by_its_key(entry: AuditEntry, line: bytes) -> bool:
    """Only in the very bytes in which a line is written."""
    try:
        verify_document(line, entry.key, entry.signature, "")
        plain = b64encode(decode_base64(entry.signature)).decode() == entry.signature
    except RecordError:
        return False
    return plain and entry.format == FORMAT and msgspec.json.encode(entry) == line


def head_of(log: bytes) -> AuditHead:
    lines = split_lines(log)
    return AuditHead(len(lines), chain_digests(lines)[-1])


def recall_head(place: Path) -> AuditHead:
    """How far this toolchain saw the log of a server. ShipError: its file is damaged."""
    if not place.is_file():
        return AuditHead()
    return decode_answer(place.read_bytes(), AuditHead, f"{place} (remove it if nothing else helps)")


def remember_head(place: Path, head: AuditHead) -> None:
    write_atomically(place, msgspec.json.encode(head))


def head_path(server: ServerConfig, model: str) -> Path:
    """Of an engine's log of a model; projects may give a server other names."""
    digest = sha256("\0".join((server.address, server.socket, model)).encode()).hexdigest()
    return private_folder() / "audits" / f"{digest[:32]}.json"


def extends(log: bytes, seen: AuditHead) -> bool:
    """Whether the log begins with the lines that were seen."""
    digests = chain_digests(split_lines(log))
    return seen.lines < len(digests) and digests[seen.lines] == seen.digest
