"""The options of a step, read from the source of its class: to import it would import torch, which takes seconds.

tests/compress/test_option_names.py holds what is read here against the classes themselves.
"""

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def option_names(module: str, kind: str) -> tuple[str, ...]:
    """The annotated fields of class `kind` in `module`, those of its bases of ours first."""
    tree = _parse_module(module)
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    imported = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("toolchain.")
        for alias in node.names
    }
    names: list[str] = []
    for base in (one.id for one in defined[kind].bases if isinstance(one, ast.Name)):
        if base in defined:
            names += option_names(module, base)
        elif base in imported:
            names += option_names(*imported[base])
    fields = [node.target.id for node in defined[kind].body if _is_field(node)]  # type: ignore[attr-defined]  # _is_field looked
    return tuple(dict.fromkeys([*names, *fields]))


def _is_field(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and not ast.unparse(node.annotation).startswith("ClassVar")
    )


@cache
def _parse_module(module: str) -> ast.Module:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module}: not a module of this toolchain")
    return ast.parse(Path(spec.origin).read_text())
