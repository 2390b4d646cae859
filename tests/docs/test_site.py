"""The documentation site builds strictly, and is read without a network."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

# What a browser fetches without being asked; `a` is a link that a reader may follow
FETCHED = {
    "link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src",
    "object": "data", "embed": "src",
}  # fmt: skip
OUTSIDE = re.compile(r"^(https?:)?//")


class Assets(HTMLParser):
    """Addresses that a page makes a browser fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "link" and values.get("rel") in ("canonical", "prev", "next"):
            return
        if address := values.get(FETCHED.get(tag, "")):
            self.found.append(address)


def pages(site: Path) -> Iterator[Path]:
    yield from sorted(site.rglob("*.html"))


def test_every_page_is_there(site: Path) -> None:
    assert (site / "index.html").is_file()
    assert len(list(pages(site))) > 40


def test_no_page_fetches_anything_from_elsewhere(site: Path) -> None:
    outside = {
        f"{page.relative_to(site)}: {address}"
        for page in pages(site)
        for address in Assets(page.read_text()).found
        if OUTSIDE.match(address)
    }
    assert outside == set()


def test_no_style_sheet_fetches_anything_from_elsewhere(site: Path) -> None:
    sheets = sorted(site.rglob("*.css"))
    assert sheets
    assert [str(one) for one in sheets if re.search(r"(url\(|@import )[\"']?(https?:)?//", one.read_text())] == []


def test_a_page_that_fetches_from_elsewhere_would_be_seen() -> None:
    html = '<link rel="canonical" href="https://a/"><script src="https://b/x.js"></script><a href="https://c/">c</a>'
    assert [one for one in Assets(html).found if OUTSIDE.match(one)] == ["https://b/x.js"]
