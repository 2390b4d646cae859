"""Error kinds and exit codes, from the tree of toolchain/errors.py."""

import re
from collections.abc import Iterator

from docs.generate.markdown import code, page, table
from toolchain import errors
from toolchain.cli import parser

EXITS = """A message has three parts: what was found, what was expected, and what to type next. It is one line on
stderr, `toolchain: …`. Where a library failed, the line ends with `traceback: FILE`, in `.toolchain/tracebacks/`;
"this is a fault of the toolchain" means just that, please report it with the file. `TOOLCHAIN_DEBUG=1` shows
tracebacks as they are."""
GATE = "[The gate](../concepts/gate.md)"


def errors_page() -> str:
    kinds = list(_kinds(errors.ToolchainError))
    codes = [
        ("0", "success; of a gate: passed"),
        ("1", "it could not be done; of a gate: regressed; of a certificate: not genuine, or not passed"),
        ("2", "a usage error: the command line or a recipe is wrong, and nothing was done"),
        ("3", f"a gate that is inconclusive, or whose releases are not comparable: {GATE}"),
        (str(parser.INTERRUPTED), "interrupted (Ctrl-C or SIGTERM); the same command goes on from there"),
        (str(parser.BROKEN_PIPE), "the reader of stdout went away (`| head`)"),
    ]
    rows = [(code(kind.__name__), code(kind.__mro__[1].__name__), str(kind.exit_code), _words(kind)) for kind in kinds]
    return page(
        "Exit codes and errors",
        "toolchain/errors.py",
        "## Exit codes",
        table(("code", "meaning"), codes),
        "## Error kinds",
        EXITS,
        table(("kind", "is a", "exit code", "when"), rows),
    )


def _kinds(kind: type[errors.ToolchainError]) -> Iterator[type[errors.ToolchainError]]:
    for one in kind.__subclasses__():
        if one.__module__ == errors.__name__:
            yield one
            yield from _kinds(one)


def _words(kind: type[errors.ToolchainError]) -> str:
    """What the tree in the module's docstring says behind the name, without its exit code."""
    match = re.search(rf"{kind.__name__}\s+(?:exit \d: )?(.+)", errors.__doc__ or "")
    return match[1] if match else ""
