"""The README says what is so: its file tree and its commands."""

import re
from pathlib import Path

import pytest

from tests.house.readme import FENCE, commands, inline_commands, shell_lines, tree
from tests.house.tree import ROOT, tracked
from tests.journeys.test_readme import RUN_BY_A_TEST
from toolchain.cli import COMMANDS
from toolchain.cli.parser import Call, read
from toolchain.errors import UsageError

TEXT = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "development" / "architecture.md").read_text()
PAGES = tuple(path for path in tracked() if path.suffix == ".md" and path.parts[0] != "docs")  # tests/docs has those
README_BYTES = 7000
# Not rooms: what every repository has
UNLISTED = {".ci", ".github", "requirements"}
RUNS = "tests/journeys/test_readme.py"  # what runs each command of the README


def rooms() -> set[str]:
    """Top-level folders, and the packages in toolchain/ and deploy/."""
    top = {path.parts[0] for path in tracked() if len(path.parts) > 1} - UNLISTED
    inner = {"/".join(path.parts[:-1]) for path in tracked() if path.name == "__init__.py" and len(path.parts) == 3}
    return top | {name for name in inner if name.startswith(("toolchain/", "deploy/"))}


def targets() -> set[str]:
    """What `make` can be asked for."""
    text = (ROOT / "Makefile").read_text()
    return {name for line in re.findall(r"^([\w -]+):(?!=)", text, re.MULTILINE) for name in line.split()}


def unknown_targets(words: list[str]) -> list[str]:
    named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    return [word for word in named if word not in targets()]


def unknown_commands(text: str) -> list[str]:
    """Those that `toolchain` or `make` would refuse, each with the reason: of sh blocks in full, of running text the
    command's name alone."""
    wrong = []
    for words in [*commands(text), *([*words, "--help"] for words in inline_commands(text))]:
        if words[0].removeprefix(".venv/bin/") == "toolchain":
            try:
                read(COMMANDS, words[1:])
            except UsageError as error:
                wrong.append(f"{' '.join(words)}: {error}")
        elif words[0] == "make":
            wrong += [f"{' '.join(words)}: no such target" for _ in unknown_targets(words)]
    return wrong


def test_nothing_is_left_to_be_filled_in() -> None:
    assert "@@" not in TEXT


def test_the_readme_is_one_screen_and_four_doors() -> None:
    assert len(TEXT.encode()) <= README_BYTES


def test_the_sample_output_is_a_part_of_the_full_log() -> None:
    block = next(block for language, block in FENCE.findall(TEXT) if not language and "top-1" in block)
    log = (ROOT / "docs" / "deploy-cpu.txt").read_text().splitlines()
    assert [line for line in block.splitlines() if line and line not in log] == []


def test_every_link_of_the_readme_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", TEXT)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_file_tree_names_only_what_is_there() -> None:
    assert [path for path in tree(ARCHITECTURE) or [] if not any(ROOT.glob(path.rstrip("/")))] == []


def test_the_file_tree_has_every_room() -> None:
    assert rooms() - {path.rstrip("/") for path in tree(ARCHITECTURE) or []} == set()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_command_on_the_page_is_one_that_we_have(page: Path) -> None:
    assert unknown_commands((ROOT / page).read_text()) == []


def test_every_command_of_the_readme_is_run_by_a_test() -> None:
    """By its own line, in full: a command that nobody runs is a promise that nobody keeps."""
    said = {" ".join(words) for words in [*shell_lines(TEXT), *inline_commands(TEXT)]}
    assert said
    assert said - set(RUN_BY_A_TEST) == set(), f"add it to RUN_BY_A_TEST, and a test that runs it: {RUNS}"
    assert set(RUN_BY_A_TEST) - said == set(), "no longer in the README"


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
