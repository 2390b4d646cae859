"""An exception that no person should have to read: one line in its place, and its traceback in a file that it names.

Knows nothing of what failed. TOOLCHAIN_DEBUG=1 lets exceptions through as they are.
"""

import errno
import os
import platform
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256

from toolchain import __version__
from toolchain.errors import ToolchainError
from toolchain.installation import explain_import
from toolchain.paths import home

DEBUG = "TOOLCHAIN_DEBUG"
FOLDER = "tracebacks"
LONGEST_REASON = 300  # characters; a library may quote a whole graph
# what the machine refuses and a person can cure
CURES = {
    errno.ENOSPC: "free some space and run the same command again to resume",
    errno.EDQUOT: "free some space and run the same command again to resume",
    errno.EACCES: "run as a user who may, or name another place (TOOLCHAIN_HOME)",
    errno.EROFS: "name another place (TOOLCHAIN_HOME)",
}
# lines of OpenVINO's and protobuf's messages that tell where in their own sources they are
SOURCE_LINES = ("Exception from ", "Check '", "FrontEnd API failed", "While validating ONNX node")


def is_debugging() -> bool:
    """Whether exceptions are to be shown with their tracebacks."""
    return os.environ.get(DEBUG, "") not in ("", "0")


def describe_error(error: BaseException) -> str:
    """Its type and the first line of its message that says something, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if not line.startswith(SOURCE_LINES)), lines[0] if lines else "")
    short = reason if len(reason) <= LONGEST_REASON else f"{reason[:LONGEST_REASON]}…"
    return f"{type(error).__name__}: {short}" if short else type(error).__name__


def save_traceback(error: BaseException) -> str:
    """Write the traceback of `error` to a file of its own; the words that name it in a message."""
    return save_report(type(error).__name__, "".join(traceback.format_exception(error)))


def save_report(stem: str, text: str) -> str:
    """Write `text` to a file of its own, whose name begins with `stem`; the words that name it in a message. The same
    text is the same file, so that repeating a command fills no disk."""
    from toolchain.records.storage import write_atomically

    content = text.encode(errors="replace")
    place = home() / FOLDER / f"{stem}-{sha256(content).hexdigest()[:10]}.txt"
    head = f"edge toolchain {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n"
    try:
        write_atomically(place, head.encode() + content)
    except OSError as refused:
        return f"traceback: not kept ({refused.strerror}); {DEBUG}=1 shows it"
    return f"traceback: {place}"


@contextmanager
def explain_failure(
    kind: type[ToolchainError], what: str, cure: str, locate: Callable[[Exception], str] = lambda _: ""
) -> Iterator[None]:
    """Raise an exception that a library raises in the block as `kind`, in one line: what failed, where, why, what to do
    instead, and the file with the traceback. locate: where in the model, from the exception. ToolchainErrors pass, and
    so does what the machine refuses (a full disk)."""
    try:
        yield
    except ToolchainError:
        raise
    except Exception as error:
        if is_debugging() or (isinstance(error, OSError) and error.errno in CURES):
            raise
        raise kind(f"{what}{locate(error)}: {describe_error(error)}; {cure}; {save_traceback(error)}") from error


def describe_fault(error: Exception) -> str:
    """The line for an exception that nobody explained: a file that the system refused, a library that is not installed,
    or a fault of this toolchain."""
    if isinstance(error, ModuleNotFoundError) and (missing := explain_import(error)):
        return missing
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; {save_traceback(error)}"
    return f"{describe_error(error)}; this is a fault of the toolchain, please report it; {save_traceback(error)}"
