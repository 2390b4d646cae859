"""Every command on a page of the site is one that there is."""

import re
from pathlib import Path

import pytest

from tests.house.test_readme import unknown_commands
from tests.house.tree import ROOT, tracked

PAGES = tuple(path for path in tracked() if path.suffix == ".md" and path.parts[:1] == ("docs",))
NOTEBOOK = {
    Path("docs/lab.md"),
    *(path for path in PAGES if path.parts[1] == "decisions"),
}  # what was true on their day


@pytest.mark.parametrize("page", [page for page in PAGES if page not in NOTEBOOK], ids=str)
def test_every_command_on_the_page_is_one_that_we_have(page: Path) -> None:
    assert unknown_commands((ROOT / page).read_text()) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page not in NOTEBOOK], ids=str)
def test_every_module_that_the_page_runs_is_there(page: Path) -> None:
    named = re.findall(r"python -m ((?:benchmarks|docs|toolchain|deploy)[\w.]*\w)", (ROOT / page).read_text())
    places = [ROOT / name.replace(".", "/") for name in named]
    assert [at for at in places if not (at.with_suffix(".py").is_file() or (at / "__main__.py").is_file())] == []
