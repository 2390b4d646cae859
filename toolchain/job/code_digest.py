"""The code that a stage depends on: the module that makes it, and every module of ours that this one reaches.

The list is derived: import statements are followed, those inside functions too, and so is every string that names one
of our modules (the tables of back ends, engines, steps and data sets import by name). What only a type checker imports
is left out. A package's own file counts where something is imported from it, not where only a module in it is.

What is hashed is the syntax tree without docstrings, not the text: comments, layout and line numbers change nothing, a
constant does. Bytecode would not do: a removed docstring leaves an instruction behind, and the order of a frozen set
differs from process to process.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec

from toolchain.records.storage import encode_record, write_atomically

ROOT = Path(__file__).parents[2]
MEMO = "code.json"
PACKAGES = ("toolchain", "deploy", "benchmarks")
OURS = re.compile(rf"({'|'.join(PACKAGES)})(\.\w+)+(:\w+)?")  # a module, or `module:name` in it
ReadSource = Callable[[str], str | None]


class Code(msgspec.Struct, frozen=True):
    """A module. text, tree: sha256 of its source, and of its syntax tree; named: what it may import, as in OURS."""

    text: str
    tree: str
    named: tuple[str, ...]


class Memo(msgspec.Struct, frozen=True):
    """Modules as they were parsed, by `parser`: this file and the Python that it runs on."""

    parser: str
    modules: dict[str, Code]


def read_source(module: str) -> str | None:
    """The source of a module of this project, `toolchain.job`; None for a name that no module has."""
    path = ROOT.joinpath(*module.split("."))
    file = next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)
    return None if file is None else file.read_text()


@cache
def source_tree(folder: Path) -> "SourceTree":
    """The sources, read once in this process; what was parsed of them is remembered in `folder`."""
    return SourceTree(read_source, folder / MEMO)


class SourceTree:
    """The modules that `read` knows. memo: the file that remembers syntax trees' digests, since parsing takes half a
    second; None: nothing is remembered."""

    def __init__(self, read: ReadSource = read_source, memo: Path | None = None) -> None:
        self._read, self._memo = read, memo
        self._remembered = _read_memo(memo)
        self._modules: dict[str, Code | None] = {}
        self._reached: dict[str, frozenset[str]] = {}

    def digest(self, *modules: str) -> str:
        """sha256 over all that `modules` reach. ModuleNotFoundError for a name that is not in this project."""
        running = sha256()
        for name in sorted({name for module in modules for name in self.reachable_modules(module)}):
            if code := self._module(name):
                running.update(f"{name} {code.tree}\n".encode())
        self._remember()
        return running.hexdigest()

    def reachable_modules(self, module: str) -> frozenset[str]:
        """`module`, and every module of ours that it imports, directly or not."""
        if self._module(module) is None:
            raise ModuleNotFoundError(f"{module}: not a module of this project, so a stage cannot be kept by its code")
        if module not in self._reached:
            found, waiting = set[str](), [module]
            while waiting:
                name = waiting.pop()
                if name not in found and (code := self._module(name)):
                    found.add(name)
                    waiting += filter(None, map(self._resolve, code.named))
            self._reached[module] = frozenset(found)
        return self._reached[module]

    def _resolve(self, named: str) -> str | None:
        """The module that `package:module` or `module:name` stands for; None where there is none."""
        package, _, name = named.partition(":")
        if name and self._module(module := f"{package}.{name}"):
            return module
        return package if self._module(package) else None

    def _module(self, name: str) -> Code | None:
        if name not in self._modules:
            text = self._read(name)
            self._modules[name] = None if text is None else self._parse_cached(name, text)
        return self._modules[name]

    def _parse_cached(self, name: str, text: str) -> Code:
        digest, known = sha256(text.encode()).hexdigest(), self._remembered.get(name)
        return known if known is not None and known.text == digest else parse(text)

    def _remember(self) -> None:
        parsed = {name: code for name, code in self._modules.items() if code and code != self._remembered.get(name)}
        if parsed and self._memo:
            self._remembered |= parsed
            self._memo.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_atomically(self._memo, encode_record(Memo(_parser(), self._remembered)))


@cache
def parse(text: str) -> Code:
    """A module's digest, and what it names of ours; once in this process, however many state directories it uses."""
    tree = ast.parse(text)
    _strip(tree)
    digest = sha256(ast.dump(tree).encode()).hexdigest()
    return Code(sha256(text.encode()).hexdigest(), digest, tuple(sorted(set(_named_modules(tree)))))


def _strip(node: ast.AST) -> None:
    """Remove docstrings and what only a type checker runs, in place."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, name, ()):
            _strip(child)
    match node:
        case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef() if ast.get_docstring(
            node, False
        ):
            node.body = node.body[1:] or [ast.Pass()]
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            node.body = [ast.Pass()]


def _named_modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names if OURS.fullmatch(alias.name))
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in PACKAGES:
                yield from (f"{module}:{alias.name}" for alias in node.names)
            case ast.Constant(value=str(text)) if OURS.fullmatch(text):
                yield text


def _read_memo(memo: Path | None) -> dict[str, Code]:
    try:
        found = msgspec.json.decode(memo.read_bytes() if memo else b"", type=Memo)
    except (OSError, msgspec.DecodeError):
        return {}
    return found.modules if found.parser == _parser() else {}


@cache
def _parser() -> str:
    return sha256(Path(__file__).read_bytes() + sys.version.encode()).hexdigest()
