"""The CI files that users copy: valid, and every command, file and flag that they name exists."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.house.tree import ROOT
from toolchain.cli import COMMANDS

FILES = tuple(sorted((*(ROOT / "examples" / "ci").glob("*.yml"), *(ROOT / "deploy" / "ci").rglob("*.yml"))))
COMMAND = re.compile(r"(?:^|[|;&(]|\$\()\s*\"?(toolchain [a-z]+|make [a-z-]+|[\w./$-]+\.sh)")
BUILTINS = {"source", "read"}


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def scripts(node: object) -> Iterator[str]:
    """Every text below `run`, `script` and `after_script`."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("run", "script", "after_script"):
                yield from [value] if isinstance(value, str) else value
            else:
                yield from scripts(value)
    elif isinstance(node, list):
        for value in node:
            yield from scripts(value)


def test_there_are_files_for_both() -> None:
    assert len(FILES) == 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_valid_yaml_and_its_scripts_are_valid_bash(path: Path) -> None:
    found = [script for document in documents(path) for script in scripts(document)]
    assert found
    for script in found:
        text = re.sub(r"\$\{\{.*?\}\}|\$\[\[.*?\]\]", "x", script)
        checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_file_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [
        command
        for document in documents(path)
        for script in scripts(document)
        for line in script.splitlines()
        for command in COMMAND.findall(line.strip())
    ]
    assert named
    for command in named:
        first, _, rest = command.partition(" ")
        if first == "toolchain":
            assert rest in COMMANDS, command
        elif first == "make":
            assert rest in targets, command
        else:
            place = ROOT / re.sub(r"^\$GITHUB_ACTION_PATH", "deploy/ci/github", first)
            assert place.resolve().is_file(), command
            assert place.stat().st_mode & 0o111, f"{command} is not executable"


def test_programs_that_the_scripts_call_are_installed_or_asked_for() -> None:
    text = "".join(path.read_text() for path in FILES)
    assert all(shutil.which(program) for program in ("jq", "bash")) or "jq" not in text
