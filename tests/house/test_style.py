"""The house style, as far as it can be counted; and nothing of one machine in the repository."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.house.sources import participles, repeated_type_names
from tests.house.tree import ROOT, tracked
from toolchain.recipe import read_recipe

FILE_LINES, FUNCTION_LINES = 300, 60
NAMES_THAT_SAY_NOTHING = re.compile(r"^_?(utils?|helpers?|common|misc|.*manager)$")
SOURCES = tuple(path for path in tracked() if path.suffix == ".py")
# Put together here so that this file does not hold what it forbids
REGISTRIES = tuple(".".join(parts) for parts in (("pypi", "org"), ("files", "pythonhosted"), ("registry", "npmjs")))
MACHINE = (re.compile("/wo" + "rk/(main|shared|tmp)"), re.compile("(--(extra-)?index-u" + "rl|fi" + "le:///opt)"))


def lines_of(path: Path) -> list[str]:
    return (ROOT / path).read_text().splitlines()


def functions_of(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length in lines, of every function and method."""
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1


def test_no_file_has_to_be_searched() -> None:
    assert {str(path): len(lines_of(path)) for path in SOURCES if len(lines_of(path)) > FILE_LINES} == {}


def test_no_function_has_to_be_scrolled() -> None:
    long = [f"{path}: {name}, {n} lines" for path in SOURCES for name, n in functions_of(path) if n > FUNCTION_LINES]
    assert long == []


def test_nine_tenths_of_the_products_functions_are_under_30_lines() -> None:
    product = [path for path in SOURCES if path.parts[0] in ("toolchain", "deploy")]
    lengths = sorted(length for path in product for _, length in functions_of(path))
    assert lengths[int(len(lengths) * 0.9)] <= 30


def test_no_type_name_stands_twice() -> None:
    assert repeated_type_names() == {}


def test_functions_are_named_by_verbs_and_nouns() -> None:
    """`judge_candidates`, not `judged`; a few participles that are the field's own may stay."""
    assert len(participles()) <= 15, participles()


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [str(path) for path in tracked() if NAMES_THAT_SAY_NOTHING.match(path.name.split(".")[0].lower())] == []


def test_every_module_says_what_it_does() -> None:
    """Those of tests/ too, where the names of their tests do not say it already."""
    written = [path for path in SOURCES if lines_of(path) and not path.name.startswith("test_")]
    assert [str(path) for path in written if not ast.get_docstring(ast.parse((ROOT / path).read_text()))] == []


def test_nothing_of_one_machine_or_one_registry_is_in_the_repository() -> None:
    found = []
    for path in tracked():
        try:
            text = (ROOT / path).read_text()
        except UnicodeDecodeError:
            continue  # weights and pictures
        words = [host for host in REGISTRIES if host in text]
        words += [match[0] for pattern in MACHINE if (match := pattern.search(text))]
        found += [f"{path}: {word}" for word in words]
    assert found == []


def test_every_ignored_type_has_its_reason() -> None:
    """`# type: ignore[code]  # why`."""
    mark = "# type: " + "ignore"
    bare = [f"{path}: {line.strip()}" for path in SOURCES for line in lines_of(path) if mark in line]
    assert [line for line in bare if not re.search(rf"{mark}\[[\w, -]+\]  # \w", line)] == []


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in tracked()
        if path.suffix == ".toml" and path.parts[0] in ("recipes", "examples") and path.name != "inventory.toml"
    ],
    ids=str,
)
def test_every_recipe_can_be_read_and_its_own_files_are_there(path: Path) -> None:
    source = read_recipe(ROOT / path).model.source.partition(":")[0]
    if source.endswith(".py"):
        places = ((ROOT / path).parent / source, ROOT / source)
        assert any(place.is_file() for place in places), f"{path}: model.source: no {source}"
