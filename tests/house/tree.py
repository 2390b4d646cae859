"""The repository as the house tests see it: tracked files, modules, who imports whom. Imports nothing."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
OURS = ("toolchain", "deploy")


@dataclass(frozen=True)
class Import:
    """module: `deploy.gate.run`; target: a module of ours or of anyone; line: where; top: run when it is loaded;
    types: run by a type checker only."""

    module: str
    target: str
    line: int
    top: bool
    types: bool = False

    def __str__(self) -> str:
        return f"{self.module}, line {self.line}: imports {self.target}"


@cache
def tracked() -> tuple[Path, ...]:
    """Files that git knows and that are there, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return tuple(path for name in listed.split("\0") if name and (ROOT / (path := Path(name))).is_file())


@cache
def modules() -> dict[str, Path]:
    """Our modules by name: `deploy.runtime` -> deploy/runtime/__init__.py."""
    found = {}
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports() -> tuple[Import, ...]:
    """Every import statement in our modules, those that only a type checker runs among them."""
    return tuple(
        one for name, path in modules().items() for one in _imports_of(name, ast.parse(path.read_text()), True, False)
    )


def _imports_of(module: str, node: ast.AST, top: bool, types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(module, alias.name, child.lineno, top, types) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from (Import(module, _target(child, name.name), child.lineno, top, types) for name in child.names)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            only_types = types or _for_types_only(child)
            yield from _imports_of(module, child, top and not inside and not only_types, only_types)


def _for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _target(statement: ast.ImportFrom, name: str) -> str:
    """`from toolchain.records import files` imports the module toolchain.records.storage."""
    if statement.level:
        raise AssertionError(f"line {statement.lineno}: a relative import; write the module's whole name")
    inner = f"{statement.module}.{name}"
    return inner if inner in modules() else str(statement.module)


def below(name: str, room: str) -> bool:
    """Is `name` the module `room`, or in it?"""
    return name == room or name.startswith(f"{room}.")


def cyclic_imports() -> list[str]:
    """Modules of ours that are in a cycle of imports, or between two of them: `a -> b, c`."""
    edges: dict[str, set[str]] = {name: set() for name in modules()}
    for one in imports():
        if one.target in edges and one.target != one.module:
            edges[one.module].add(one.target)
    # what imports nothing more that is left cannot be in a cycle; what stays in the end is
    while free := [name for name, targets in edges.items() if not targets & set(edges)]:
        for name in free:
            del edges[name]
    return [f"{name} -> {', '.join(sorted(targets & set(edges)))}" for name, targets in edges.items()]
