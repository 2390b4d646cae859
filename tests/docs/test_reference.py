"""The reference is what the code says: no generated page is stale, and no key is without an explanation."""

import re

import pytest

from docs.generate.pages import DOCS, PAGES
from tests.house.tree import ROOT
from toolchain.schemas.annotated import check_complete

MEND = "make docs-reference"


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_fresh(name: str) -> None:
    path = DOCS / name
    assert path.is_file(), f"docs/{name} is missing; write it: {MEND}"
    fresh = path.read_text() == PAGES[name]()
    assert fresh, f"docs/{name} is stale; write it again: {MEND}"


def test_a_key_that_nobody_explains_is_named() -> None:
    with pytest.raises(ValueError, match=r"no line for \['build.speed'\]; no such key: \['build.pace'\]"):
        check_complete("recipe.toml", ["name", "build.pace"], ["name", "build.speed"])


def test_every_metric_that_the_server_names_is_on_the_page() -> None:
    page = (DOCS / "reference" / "metrics.md").read_text()
    sources = (ROOT / "deploy" / "runtime").rglob("*.py")
    named = {name for source in sources for name in re.findall(r"\"(edge_[a-z_]+)\"", source.read_text())}
    assert named
    assert [name for name in sorted(named) if f"`{name}`" not in page and f"`{name}_total`" not in page] == []
