"""The page in a real browser, on a real server. It must be Debian's Chromium: it has no network to fetch another."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from benchmarks.first_hour.page_audit import Prepare, audit_page
from benchmarks.first_hour.pages import annoy_server, ask_server
from tests.bundles import null_bundle
from tests.deploy.runtime.protocol.test_protocol_client import picture
from tests.deploy.runtime.server import Running, serving
from tests.deploy.runtime.test_server_certificate import sealed
from toolchain.records.bundle import CERTIFY

CHROMIUM = shutil.which("chromium")
CERTIFIED = {"CERTIFY": "first", "CERTIFY_SECONDS": "0.1"}
MARKUP = "<img src=x onerror=alert(1)>"
LABELS = (MARKUP, "dog", "frog", "ship", "horse", "deer")
PICTURE = {"name": "grey.jpg", "mimeType": "image/jpeg", "buffer": picture()}
BROKEN = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
GIVE = """([bytes, type, event]) => {
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "given", {type}));
    const carried = {clipboardData: data, dataTransfer: data, bubbles: true, cancelable: true};
    const made = event === "paste" ? new ClipboardEvent(event, carried) : new DragEvent(event, carried);
    document.body.dispatchEvent(made);
}"""

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium here: deploy/setup.sh servers")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("page")
    bundle = null_bundle(folder / "null.bundle", labels=LABELS, delay_ms=2)
    (folder / "state").mkdir()
    with serving(bundle.folder, "--state", folder / "state", **CERTIFIED) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=60_000)  # a machine that builds and tests elsewhere is slow
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CAMERA)
        yield browser
        browser.close()


@pytest.fixture
def said() -> list[str]:
    """Errors of the browser's console: scripts that threw, what the policy refused, requests that failed."""
    return []


@pytest.fixture
def page(browser: Browser, served: Running, said: list[str]) -> Iterator[Page]:
    page = opened(browser, served, said)
    yield page
    page.context.close()
    assert [words for words in said if not words.startswith("Failed to load resource")] == []


def opened(browser: Browser, served: Running, said: list[str]) -> Page:
    page = browser.new_context(viewport={"width": 380, "height": 800}).new_page()
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))
    page.goto(f"http://127.0.0.1:{served.port}/")
    expect(page.get_by_role("heading", level=1)).to_have_text("null")
    return page


def test_an_upload_shows_five_bars_and_where_the_time_went(page: Page, said: list[str]) -> None:
    page.get_by_label("Choose a picture").set_input_files([PICTURE])
    rows = page.get_by_role("list", name="Best five").get_by_role("listitem")
    expect(rows).to_have_count(5)
    assert rows.nth(1).inner_text().split() == ["dog", "16.7", "%"]
    widths = page.locator(".fill").evaluate_all("bars => bars.map((bar) => bar.style.width)")
    assert widths == ["16.6667%"] * 5
    times = page.get_by_role("list", name="Where the time went").inner_text()
    assert re.findall(r"[A-Z][a-z ]+", times) == ["Decoding", "Queue", "Inference", "Network and rest", "Round trip"]
    expect(page.locator("#preview")).to_be_visible()
    expect(page.locator("#spoken")).to_have_text(f"{MARKUP}, 16.7 %")
    assert said == []


def test_a_label_with_markup_is_shown_as_text(page: Page, said: list[str]) -> None:
    page.get_by_label("Choose a picture").set_input_files([PICTURE])
    first = page.locator("#top li .label").first
    expect(first).to_have_text(MARKUP)
    assert page.locator("#result img").count() == 0
    assert said == []


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_a_picture_can_be_pasted_and_dropped(page: Page, event: str) -> None:
    page.evaluate(GIVE, [list(picture("PNG")), "image/png", event])
    expect(page.locator("#top li")).to_have_count(5)


def test_what_the_server_does_not_read_is_turned_into_what_it_does(page: Page) -> None:
    page.get_by_label("Choose a picture").set_input_files([{**PICTURE, "mimeType": "image/webp"}])
    expect(page.locator("#top li")).to_have_count(5)
    page.get_by_label("Choose a picture").set_input_files([{**BROKEN, "mimeType": "text/plain"}])
    expect(page.locator("#error")).to_have_text(
        "broken.png is no picture that this browser can read. Choose a JPEG or PNG."
    )


def test_an_error_of_the_server_is_shown_in_its_words(page: Page) -> None:
    page.get_by_label("Choose a picture").set_input_files([BROKEN])
    expect(page.get_by_role("alert")).to_have_text(
        "Not a complete JPEG, PNG, WebP, GIF, BMP or TIFF image (unknown format); got 10 bytes."
    )
    expect(page.locator("#result")).to_be_hidden()
    expect(page.locator("#preview")).to_be_hidden()
    page.get_by_label("Choose a picture").set_input_files([PICTURE])
    expect(page.locator("#top li")).to_have_count(5)
    expect(page.locator("#error")).to_be_hidden()


def test_the_camera_is_classified_once_and_continuously(page: Page, said: list[str]) -> None:
    page.get_by_role("button", name="Use the camera").click()
    expect(page.locator("#video")).to_be_visible()
    continuous = page.get_by_role("button", name="Continuous")
    with page.expect_response("**/infer"), page.expect_response("**/infer"):
        continuous.click()
    expect(continuous).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#top li")).to_have_count(5)
    continuous.click()
    expect(continuous).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="Take a picture").click()
    expect(page.locator("#preview")).to_be_visible()
    expect(page.locator("#video")).to_be_hidden()
    assert said == []


def test_the_certificate_is_on_the_page(page: Page, served: Running) -> None:
    found = json.loads(served.ask("GET", "/certificate")[2])
    certificate = page.get_by_role("region", name="Certificate")
    passed = sum(check["passed"] for check in found["checks"])
    expect(certificate.locator(".verdict")).to_have_text(f"Passed: all {passed} checks")
    text = certificate.inner_text()
    assert all(check["name"] in text and check["found"] in text for check in found["checks"])
    assert all(scenario["scenario"] in text for scenario in found["scenarios"])
    assert found["issued_at"][:10] in text
    assert "100.0 % of 12 held-out pictures" in text
    assert found["key"][:16] in text


def test_a_check_that_failed_is_told_with_what_was_expected(browser: Browser, tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle")
    np.savez(bundle.path(CERTIFY), images=np.zeros((12, 8, 8, 3), np.uint8), labels=np.arange(12) % 2)
    said: list[str] = []
    with serving(sealed(bundle).folder, until="not ready", **CERTIFIED) as server:
        page = opened(browser, server, said)
        expect(page.locator("#state")).to_have_text("Not ready")
        expect(page.locator("#trouble")).to_have_text(re.compile(r"^Check 'accuracy' failed: 6 of 12 right"))
        expect(page.locator(".verdict")).to_have_text(re.compile(r"^Failed: 1 of \d checks"))
        failed = page.get_by_role("row").filter(has=page.locator(".mark.failed"))
        expect(failed).to_contain_text("expected at least 11: 12 on the build machine")
        assert said == []
        page.context.close()


def test_throughput_and_latency_are_drawn_as_they_come(page: Page) -> None:
    expect(page.locator("#totals")).to_contain_text("Pictures since start")
    page.get_by_label("Choose a picture").set_input_files([PICTURE])
    for title in ("Throughput", "Latency, mean by stage", "Requests at once, mean"):
        plot = page.get_by_role("img", name=re.compile(title))
        plot.locator("rect.is-infer").first.wait_for(state="attached")
    latency = page.get_by_role("img", name=re.compile("Latency")).get_attribute("aria-label") or ""
    highest = re.search(r"highest of two minutes ([\d.]+)", latency)
    assert highest
    assert float(highest[1]) >= 2, "the engine alone takes 2 ms"


def test_a_wanted_token_is_asked_for_and_sent_and_kept_in_the_tab_only(page: Page, served: Running) -> None:
    sent: list[str] = []

    def guarded(route: Route) -> None:
        sent.append(route.request.headers.get("authorization", ""))
        if sent[-1] == "Bearer right":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "no token"})

    page.route(re.compile(rf":{served.port}/(v2.*)?$"), guarded)
    expect(page.locator("#trouble")).to_have_text("The server wants an access token.")
    expect(page.locator("#state")).to_have_text("Token wanted")
    for word, words in (("wrong", "The server does not take this access token."), ("right", "")):
        page.get_by_label("Bearer token").fill(word)
        page.get_by_label("Bearer token").press("Enter")
        expect(page.locator("#trouble")).to_have_text(words)
    expect(page.locator("#state")).to_have_text("Ready")
    assert set(sent) == {"", "Bearer wrong", "Bearer right"}
    assert page.evaluate("[localStorage.length, document.cookie, sessionStorage.length]") == [0, "", 1]
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("#state")).to_have_text("Token wanted")
    assert page.evaluate("sessionStorage.length") == 0


@pytest.mark.slow
@pytest.mark.parametrize("prepare", [ask_server, annoy_server])
def test_all_text_has_contrast_and_nothing_is_cut_off(browser: Browser, served: Running, prepare: Prepare) -> None:
    audits = audit_page(browser, f"http://127.0.0.1:{served.port}/", prepare)
    assert len(audits) == 6
    assert [audit for audit in audits if audit.faults] == []


def test_the_keyboard_reaches_everything_in_order(page: Page) -> None:
    reached = []
    for _ in range(6):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert reached == ["Skip to the picture", "Access token", "file", "camera", "shell-text", "metrics"]


def test_a_server_that_went_away_is_told(browser: Browser, tmp_path: Path) -> None:
    said: list[str] = []
    with serving(null_bundle(tmp_path / "null.bundle").folder) as server:
        page = opened(browser, server, said)
        expect(page.locator("#certificate")).to_have_text("None: this server was started with certificates off.")
        assert said == []
    expect(page.locator("#state")).to_have_text("No answer")
    expect(page.locator("#trouble")).to_have_text("The server cannot be reached.")
    page.get_by_label("Choose a picture").set_input_files([PICTURE])
    expect(page.locator("#error")).to_have_text("The server cannot be reached.")
    page.context.close()
