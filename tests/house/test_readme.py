"""The README says what is so: its file tree and its commands."""

import re
from pathlib import Path

import pytest

from tests.house.readme import commands, tree
from tests.house.tree import ROOT, tracked
from toolchain.cli import COMMANDS
from toolchain.cli.parser import Call, read
from toolchain.errors import UsageError

TEXT = (ROOT / "README.md").read_text()
PAGES = tuple(path for path in tracked() if path.suffix == ".md" and path.parts[0] != "docs")
# Not rooms: what every repository has
UNLISTED = {".ci", ".github", "requirements"}


def rooms() -> set[str]:
    """Top-level folders, and the packages in toolchain/ and deploy/."""
    top = {path.parts[0] for path in tracked() if len(path.parts) > 1} - UNLISTED
    inner = {"/".join(path.parts[:-1]) for path in tracked() if path.name == "__init__.py" and len(path.parts) == 3}
    return top | {name for name in inner if name.startswith(("toolchain/", "deploy/"))}


def targets() -> set[str]:
    """What `make` can be asked for."""
    makefile = ROOT / "Makefile"
    text = makefile.read_text() if makefile.is_file() else ""
    return {name for line in re.findall(r"^([\w -]+):(?!=)", text, re.MULTILINE) for name in line.split()}


def unknown_targets(words: list[str]) -> list[str]:
    asked = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return [word for word in asked if word not in targets()]


def test_nothing_is_left_to_be_filled_in() -> None:
    assert "@@" not in TEXT


def test_the_file_tree_names_only_what_is_there() -> None:
    entries = tree(TEXT)
    if entries is None:
        pytest.skip("the README has no file tree yet: a fenced block with a line that begins with toolchain/")
    assert [path for path in entries if not any(ROOT.glob(path.rstrip("/")))] == []


def test_the_file_tree_has_every_room() -> None:
    entries = tree(TEXT)
    if entries is None:
        pytest.skip("the README has no file tree yet: a fenced block with a line that begins with toolchain/")
    assert rooms() - {path.rstrip("/") for path in entries} == set()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_on_the_page_is_one_that_we_have(page: Path) -> None:
    wrong = []
    for words in commands((ROOT / page).read_text()):
        if words[0].removeprefix(".venv/bin/") == "toolchain":
            try:
                read(COMMANDS, words[1:])
            except UsageError as error:
                wrong.append(f"{' '.join(words)}: {error}")
        elif words[0] == "make":
            wrong += [f"{' '.join(words)}: no such target" for _ in unknown_targets(words)]
    assert wrong == []


@pytest.mark.parametrize("verb", [name for name, entry in COMMANDS.items() if callable(entry)])
def test_every_verb_explains_itself(verb: str) -> None:
    """A story for each parameter, and no parameter of a type that no command line can give."""
    text = read(COMMANDS, [verb, "--help"])
    assert isinstance(text, str)
    bare = [line.strip() for line in text.splitlines() if re.fullmatch(r"  (--)?[\w-]+(=[A-Z]+)?(, --no-\w+)?", line)]
    assert bare == [], "a parameter without a line under Args: in its docstring"


MADE = """
# Title
```
toolchain/         makes
  cli.py           the verbs
  records/         nouns
    files.py  bundle.py   on disk
deploy/
├── runtime/       in the container
│   └── probe.py
recipes/*.toml  docs/
Makefile           targets
```
```sh
$ git clone x && cd x && make deploy-cpu RECIPE=a.toml   # one command
toolchain build a.toml \\
    --target=null | tee log
```
"""


def test_a_tree_is_read_with_its_depth() -> None:
    assert tree(MADE) == [
        *("toolchain/", "toolchain/cli.py", "toolchain/records/", "toolchain/records/files.py"),
        *("toolchain/records/bundle.py", "deploy/", "deploy/runtime/", "deploy/runtime/probe.py"),
        *("recipes/*.toml", "docs/", "Makefile"),
    ]


def test_commands_are_read_from_their_blocks() -> None:
    found = commands(MADE)
    assert found[2] == ["make", "deploy-cpu", "RECIPE=a.toml"]
    assert found[3] == ["toolchain", "build", "a.toml", "--target=null"]
    assert isinstance(read(COMMANDS, found[3][1:]), Call)
    assert unknown_targets(["make", "-j2", "no-such-thing", "X=1"]) == ["no-such-thing"]
