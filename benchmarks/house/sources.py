"""The shape of our sources, counted: sizes, types, names. Reads text; imports nothing of what it counts."""

import ast
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import median

from tests.house.tree import ROOT, modules, tracked

Function = ast.FunctionDef | ast.AsyncFunctionDef

# Irregular past participles that are no base form as well (`read`, `set`, `put`, `cut`, `split` name an action too).
IRREGULAR = re.compile(
    "begun|bound|bought|brought|built|caught|chosen|done|drawn|driven|eaten|fallen|felt|fought|found|given|gone|grown|"
    "held|hidden|kept|known|laid|led|left|lent|lost|made|meant|met|paid|said|seen|sent|shown|sold|spent|spoken|stood|"
    "stuck|sworn|taken|taught|thought|thrown|told|understood|woken|won|worn|written"
)
# They end as participles do and are nouns or base forms.
NO_PARTICIPLES = frozenset({"embed", "exceed", "feed", "need", "proceed", "seed", "speed", "succeed"})


@cache
def trees() -> dict[Path, ast.Module]:
    """Every module of toolchain and deploy, parsed."""
    return {path: ast.parse(path.read_text()) for path in modules().values()}


def functions() -> list[Function]:
    return [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, Function)]


def file_lines() -> list[int]:
    return sorted(len(path.read_text().splitlines()) for path in trees())


def function_lines() -> list[int]:
    return sorted((node.end_lineno or node.lineno) - node.lineno + 1 for node in functions())


def percentile(ordered: Sequence[int], share: float) -> int:
    return ordered[int(len(ordered) * share)]


def typed_share() -> float:
    """The share of functions whose parameters and result all have a type; `self` and `cls` need none."""
    every = functions()
    return sum(_is_typed(node) for node in every) / len(every)


def _is_typed(node: Function) -> bool:
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
    named = [one for one in arguments if one is not None and one.arg not in ("self", "cls")]
    return node.returns is not None and all(one.annotation is not None for one in named)


def repeated_type_names() -> dict[str, int]:
    """Names of classes and type aliases that are defined more than once."""
    names = Counter(name for tree in trees().values() for name in _type_names(tree))
    return {name: count for name, count in sorted(names.items()) if count > 1}


def _type_names(tree: ast.Module) -> Iterable[str]:
    """Classes at the top of a module, and what is assigned there under a capitalized name that holds a type."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and re.fullmatch(r"_?[A-Z][a-z]\w*", target.id):
                yield target.id


def participles() -> list[str]:
    """Distinct names of functions that are a past participle and nothing else: `judged`, `_told`."""
    names = {node.name.lstrip("_") for node in functions() if not _is_property(node)}
    return sorted(name for name in names if is_participle(name))


def is_participle(name: str) -> bool:
    return bool(IRREGULAR.fullmatch(name)) or (bool(re.fullmatch(r"[a-z]{2,}ed", name)) and name not in NO_PARTICIPLES)


def _is_property(node: Function) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def modules_a_folder() -> Counter[str]:
    """Modules in each folder with Python files, `__init__.py` not counted."""
    return Counter(str(path.parent) for path in tracked() if path.suffix == ".py" and path.name != "__init__.py")


def readme_kb() -> float:
    return len((ROOT / "README.md").read_bytes()) / 1000


def file_median() -> float:
    return median(file_lines())
