"""The public surface: what it has, that it is typed and documented, and that it costs nothing to import."""

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest

import toolchain
from docs.generate.python import public_names
from tests.house.tree import ROOT
from toolchain.api.build import build_bundle
from toolchain.api.search import search_recipes

SMALL = """
import sys
import toolchain as edge
assert set(edge.__all__) <= set(dir(edge))
heavy = {"torch", "numpy", "msgspec", "rich", "docker", "sqlalchemy", "openvino", "pandas", "grpc", "PIL"}
print(sorted(heavy & set(sys.modules)))
edge.Client, edge.Bundle, edge.gate, edge.history, edge.build
print(sorted({"torch", "docker", "sqlalchemy", "openvino", "pandas", "grpc"} & set(sys.modules)))
"""
BUILD = """
import toolchain as edge
assert callable(edge.build)
import toolchain.build.choose
assert callable(edge.build)
try:
    edge.build("nowhere.toml", target="null")
except edge.errors.RecipeError as error:
    print(error)
assert callable(edge.build)
"""


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_loads_no_library_and_no_name_loads_torch() -> None:
    assert run_python(SMALL) == "[]\n[]\n"


@pytest.mark.slow
def test_build_can_be_called_whatever_was_imported_before() -> None:
    assert run_python(BUILD) == "nowhere.toml: no recipe here (No such file or directory); see recipes/ for examples\n"


@pytest.mark.parametrize(
    ("called", "room"), [(build_bundle, toolchain.build), (search_recipes, toolchain.search)], ids=["build", "search"]
)
def test_the_package_is_called_as_the_function_is(called: Callable[..., object], room: Callable[..., object]) -> None:
    function, package = (inspect.signature(one).parameters for one in (called, room))
    assert list(function) == list(package)
    assert [one.default for one in function.values()] == [one.default for one in package.values()]
    assert [one.kind for one in function.values()] == [one.kind for one in package.values()]


def test_the_stub_has_the_names_that_there_are() -> None:
    tree = ast.parse((ROOT / "toolchain" / "__init__.pyi").read_text())
    imported = {
        alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names if alias.asname
    }
    assert imported == set(toolchain.__all__)


def test_a_name_that_there_is_not_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'study'"):
        print(vars(toolchain)["__getattr__"]("study"))


@pytest.mark.parametrize("public", public_names(), ids=lambda one: one.name)
def test_every_public_name_is_documented_with_an_example(public) -> None:
    assert public.is_documented
    assert public.example.startswith(">>> ")
