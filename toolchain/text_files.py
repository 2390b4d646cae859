"""Text files that a person gives: UTF-8, with or without a byte order mark, lines ended by LF or CRLF.

Knows nothing of what a text means. Whatever else an editor saved is refused in one line that names the first byte that
does not fit, and the command that makes UTF-8 of it.
"""

import shlex
from pathlib import Path

from toolchain.errors import ToolchainError

BOM = b"\xef\xbb\xbf"
# the longer marks first: UTF-32's little-endian one begins with UTF-16's
OTHER_MARKS = (
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def read_text_file(path: Path, kind: type[ToolchainError]) -> str:
    """The text of `path`, its lines ended by LF. OSError: it cannot be read; `kind`: it is not UTF-8."""
    return decode_text(path.read_bytes(), str(path), kind)


def decode_text(content: bytes, place: str, kind: type[ToolchainError]) -> str:
    """`content` as text, its lines ended by LF; `kind` names `place` and the first byte that is not UTF-8."""
    marked = next((encoding for mark, encoding in OTHER_MARKS if content.startswith(mark)), "")
    if marked:
        raise kind(f"{place}: byte 0, 0x{content[0]:02x}, is the mark of {marked}; {_cure(place, marked)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        at = error.start + len(BOM) * content.startswith(BOM)
        letter = content[at : at + 1].decode("cp1252", errors="ignore")
        guess = f" ({letter} in Windows-1252)" if letter.isprintable() and letter else ""
        raise kind(f"{_describe_byte(content, at, place)} is not UTF-8{guess}; {_cure(place, 'CP1252')}") from error
    if "\0" in text:
        where = _describe_byte(content, content.index(b"\0"), place)
        raise kind(f"{where} is in no text: UTF-16 without its mark, or no text file; {_cure(place, 'UTF-16LE')}")
    return text.replace("\r\n", "\n")


def _describe_byte(content: bytes, at: int, place: str) -> str:
    return f"{place}: line {content.count(10, 0, at) + 1}: byte {at}, 0x{content[at]:02x},"


def _cure(place: str, encoding: str) -> str:
    return f"save it as UTF-8: iconv -f {encoding} -t UTF-8 {shlex.quote(place)} > utf-8.txt"
