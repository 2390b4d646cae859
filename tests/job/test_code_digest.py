"""What a stage's code is: found by imports and names, changed by what it does and by nothing else."""

from pathlib import Path

import pytest

from toolchain.job.code_digest import MEMO, SourceTree, parse, read_source, source_tree

MODULES = {
    "toolchain.top": '''
        """A module."""
        from typing import TYPE_CHECKING
        import numpy
        import toolchain.plain
        from toolchain.package import inner, name
        if TYPE_CHECKING:
            from toolchain.types import Only
        TABLE = {"one": "toolchain.table:Class"}
        def late():
            """Loads it when it is called."""
            from deploy.lazy import thing
            return "toolchain build RECIPE", "no.module.of.ours"
    ''',
    "toolchain.plain": "import toolchain.top",
    "toolchain.package": "from toolchain.far import x as name",
    "toolchain.package.inner": "",
    "toolchain.package.sibling": "",
    "toolchain.types": "",
    "toolchain.table": "class Class: pass",
    "deploy": "import toolchain.types",
    "deploy.lazy": "thing = frozenset({'a', 'b', 'c'})",
    "toolchain.far": "x = 1",
}


def tree(**changed: str) -> SourceTree:
    texts = {name: changed.get(name.rpartition(".")[2], text) for name, text in MODULES.items()}
    texts = {name: "\n".join(line.removeprefix(" " * 8) for line in text.splitlines()) for name, text in texts.items()}
    return SourceTree(texts.get)


def test_statements_and_strings_are_followed_and_types_are_not() -> None:
    assert tree().reachable_modules("toolchain.top") == {
        "toolchain.top",
        "toolchain.plain",
        "toolchain.package",
        "toolchain.package.inner",
        "toolchain.table",
        "toolchain.far",
        "deploy.lazy",
    }


@pytest.mark.parametrize("name", ["plain", "inner", "table", "lazy", "far"])
def test_a_constant_anywhere_that_is_reached_changes_the_digest(name: str) -> None:
    assert tree(**{name: "CHANGED = 1"}).digest("toolchain.top") != tree().digest("toolchain.top")


@pytest.mark.parametrize("name", ["types", "sibling"])
def test_what_is_not_reached_changes_nothing(name: str) -> None:
    assert tree(**{name: "CHANGED = 1"}).digest("toolchain.top") == tree().digest("toolchain.top")


def test_layout_comments_and_docstrings_change_nothing() -> None:
    written = 'def f(a, b):\n    """Add."""\n    return a + b\nclass C:\n    "Doc"\n'
    again = "# new\n\ndef f(\n    a,\n    b,\n):\n    # sums\n    return (a + b)  # both\n\n\nclass C:\n    pass\n"
    assert parse(written).tree == parse(again).tree
    assert parse(written).tree != parse(written.replace("a + b", "a - b")).tree
    only_types = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toolchain.{} import X\n"
    assert parse(only_types.format("a")).tree == parse(only_types.format("b")).tree


def test_a_module_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ModuleNotFoundError, match="numpy: not a module of this project"):
        tree().digest("numpy")


def test_what_was_parsed_is_remembered_and_a_changed_text_is_parsed_again(tmp_path: Path) -> None:
    memo = tmp_path / "cache" / MEMO
    first = SourceTree(MODULES.get, memo).digest("toolchain.far")
    content = memo.read_bytes()
    assert SourceTree(MODULES.get, memo).digest("toolchain.far") == first
    assert memo.read_bytes() == content
    assert SourceTree({"toolchain.far": "x = 2"}.get, memo).digest("toolchain.far") != first
    memo.write_text("damaged")
    assert SourceTree(MODULES.get, memo).digest("toolchain.far") == first


def test_the_tables_lead_to_every_back_end_engine_step_and_data_set() -> None:
    ours = SourceTree()
    for start, rooms in {
        "toolchain.backends": ["toolchain.backends.openvino", "toolchain.backends.tensorrt"],
        "deploy.runtime.engines": ["deploy.runtime.engines.onnxruntime", "deploy.runtime.engines.tensorrt_plan"],
        "toolchain.compress": ["toolchain.compress.steps.qat", "toolchain.compress.training.loop"],
        "toolchain.data": ["toolchain.data.cifar10", "toolchain.data.own.folder"],
    }.items():
        assert ours.reachable_modules(start) >= set(rooms)


def test_a_source_is_read_by_its_dotted_name(tmp_path: Path) -> None:
    assert "def read_source" in (read_source("toolchain.job.code_digest") or "")
    assert "BuildJob" in (read_source("toolchain.job.job") or "")
    assert read_source("toolchain.job") is not None
    assert read_source("toolchain.nothing") is None
    assert source_tree(tmp_path) is source_tree(tmp_path)
