"""The report as a person sees it: on a phone and a desk, by day and by night, with its script and without."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.first_hour.page_audit import PageAudit, audit_page, missing_browser, open_browser
from benchmarks.first_hour.pages import draw_report, open_details
from tests.report import seen

pytestmark = pytest.mark.skipif(missing_browser() is not None, reason=str(missing_browser()))


NAMES = (
    ("circle", "square", "star", "triangle", "hexagon"),
    ("commercial", "gymnasium1", "mammograms", "communists", "womanhoods"),
    ("T-shirt/top", "Trouser", "Pullover", "Dress", "Sneaker"),
    ("0", "1", "2", "3", "4"),
)
# of cells that stand in columns: what scrolls, and what is broken inside of a word
UNFIT = """() => [...document.querySelectorAll(".scroll")].flatMap(box => {
  if (box.scrollWidth > box.clientWidth + 1) return [`scrolls: ${box.innerText.slice(0, 60)}`];
  return [...box.querySelectorAll("table:not(.wide):not(.facts) td")].filter(cell => {
    const text = document.createRange();
    text.selectNodeContents(cell);
    const lines = new Set([...text.getClientRects()].map(line => line.top));
    return lines.size > cell.innerText.trim().split(/[\\s-]+/).length;
  }).map(cell => `broken: ${cell.innerText}`);
})"""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return draw_report(tmp_path_factory.mktemp("report")).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)
    with open_browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 360, "height": 800})
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else said.append(request.url))
    page.goto(address)
    yield page
    page.close()
    assert said == []


@pytest.mark.slow
def test_all_text_has_contrast_and_nothing_is_cut_off(browser: Browser, address: str) -> None:
    audits = audit_page(browser, address, open_details)
    assert len(audits) == 6
    assert [audit for audit in audits if audit.faults] == []


@pytest.mark.slow
@pytest.mark.parametrize("names", NAMES)
def test_class_names_are_whole_on_a_phone(
    browser: Browser, tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen, "CLASSES", names)
    page = browser.new_page(viewport={"width": 360, "height": 800})
    page.goto(draw_report(tmp_path).as_uri())
    open_details(page)
    assert page.evaluate(UNFIT) == []
    page.close()


@pytest.mark.slow
def test_a_table_is_sorted_by_the_column_that_is_pressed(page: Page) -> None:
    tables = page.locator("table.sorted")
    found = tables.filter(has=page.get_by_role("button", name="found by int8"))
    page.set_viewport_size({"width": 1280, "height": 800})
    button = found.get_by_role("button", name="found by fp32")
    button.click()
    shares = found.locator("tbody tr td:nth-child(3)")
    first = [float(text.rstrip("%")) for text in shares.all_inner_texts()]
    button.click()
    assert [float(text.rstrip("%")) for text in shares.all_inner_texts()] == first[::-1] == sorted(first)[::-1]
    expect(found.get_by_role("columnheader", name="found by fp32")).to_have_attribute("aria-sort", "descending")


def test_what_a_point_stands_for_is_said_where_there_is_no_pointer(page: Page) -> None:
    cell = page.locator("figure .tip:has(text)").filter(has_text="taken for").first
    words = cell.locator("title").text_content()
    cell.click()
    expect(cell.locator("xpath=ancestor::figure/figcaption")).to_have_text(str(words))


@pytest.mark.slow
def test_an_audit_finds_what_is_faint_and_what_is_cut_off(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!doctype html><body style='background: white'><p style='color: #999'>faint</p>"
        "<p style='width: 2000px'>wide</p><div style='overflow: hidden; width: 50px; white-space: nowrap'>cut off here"
        "</div><div style='background: #000; color: #fff'>good</div>"
        "<svg width=200 height=50 viewBox='0 0 200 50'><rect width=200 height=50 fill='#222'/><text y=20>black</text>"
        "</svg>"
    )
    faults = " ".join(fault for audit in audit_page(browser, bad.as_uri()) for fault in audit.faults)
    for words in ('of "faint"', "px wide in a window of 360", '"cut off here" is cut off', 'of "black"'):
        assert words in faults
    assert "good" not in faults
    assert PageAudit(360, "light", ()).faults == ()
