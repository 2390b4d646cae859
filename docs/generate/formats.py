"""The files that are written and read, with the number of their format, from the structs that carry one."""

import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

import msgspec

import deploy
import toolchain
from docs.generate.markdown import code, page, table
from docs.generate.structs import Kind, descriptions, introduction, keys, structs_in

ABOUT = """Every file that travels carries the number of its format. A reader refuses a number that is newer than it
knows, and reads all older ones that it lists; old files are kept among the tests and must go on loading. A field is
added with a default; anything else makes a new number."""
HEAD = ("field", "type", "default", "meaning")
ROOMS = (toolchain, deploy)


def formats_page() -> str:
    numbered = sorted(_numbered(), key=lambda kind: kind.__name__)
    inner = [one for kind in numbered for one in structs_in(kind)]
    rest = sorted({one for one in inner if one not in numbered}, key=lambda kind: kind.__name__)
    rows = [
        (f"[{kind.__name__}](#{kind.__name__.lower()})", str(_number(kind)), introduction(kind)) for kind in numbered
    ]
    overview = table(("record", "format", "what it is"), rows)
    parts = [part for kind in (*numbered, *rest) for part in _section(kind)]
    return page("File formats", "the records' structs", ABOUT, overview, *parts)


def _numbered() -> Iterator[Kind]:
    """Public structs with a field `format`, in any module that can be imported here."""
    seen: set[Kind] = set()
    for name in _modules():
        for kind in vars(import_module(name)).values():
            if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind not in seen:
                seen.add(kind)
                if "format" in kind.__struct_fields__ and not kind.__name__.startswith("_"):
                    yield kind


def _modules() -> Iterator[str]:
    for room in ROOMS:
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            if not module.name.endswith("__main__"):
                yield module.name


def _number(kind: Kind) -> int:
    number = next(field.default for field in msgspec.structs.fields(kind) if field.name == "format")
    assert isinstance(number, int)
    return number


def _history(kind: Kind) -> str:
    """What each number of the format brought, as the module's docstring lists it."""
    lines = (inspect.getdoc(inspect.getmodule(kind)) or "").splitlines()
    rows = [match.groups() for line in lines if (match := re.fullmatch(r"(\d+)  (\S.*)", line))]
    return table(("format", "what it brought"), rows) if rows and "format" in kind.__struct_fields__ else ""


def _section(kind: Kind) -> Iterator[str]:
    yield f"## {kind.__name__}"
    yield introduction(kind)
    yield _history(kind)
    words = descriptions(kind)
    yield table(HEAD, ((code(key.name), key.type, code(key.default), words.get(key.name, "")) for key in keys(kind)))
