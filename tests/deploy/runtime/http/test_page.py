"""Who gets the page at `/`, and with which headers; what it does in a browser is in test_page.py."""

import json
import re

import pytest

from deploy.images.build import app_files
from deploy.runtime.http.page import FILES, FOLDER, page_reply
from tests.deploy.runtime.server import Running, answer, request
from tests.house.tree import ROOT

BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


def test_a_browser_gets_the_page_and_everybody_else_json(server: Running) -> None:
    status, headers, body = server.ask("GET", "/", Accept=BROWSER)
    assert (status, headers["content-type"], headers["vary"]) == (200, "text/html; charset=utf-8", "Accept")
    assert body.startswith(b"<!doctype html>")
    for accept in ("*/*", "application/json"):
        status, headers, body = server.ask("GET", "/", Accept=accept)
        assert (status, headers["content-type"], headers["vary"]) == (200, "application/json", "Accept")
        about = json.loads(body)
        assert (about["model"], about["state"], about["reason"]) == ("null", "ready", "")
        assert about["engine"].startswith("null")


@pytest.mark.parametrize("path", FILES)
def test_what_the_page_loads_may_load_nothing_from_elsewhere(server: Running, path: str) -> None:
    _, headers, body = server.ask("GET", path, Accept=BROWSER)
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["permissions-policy"].startswith("camera=(self)")
    assert body == (FOLDER / FILES[path][0]).read_bytes()


@pytest.mark.parametrize("path", FILES)
def test_a_browser_that_has_the_file_is_not_sent_it_again(server: Running, path: str) -> None:
    _, first, body = server.ask("GET", path, Accept=BROWSER)
    assert first["cache-control"] == "no-cache"
    with server.connect() as connection:
        for tag, expected in ((first["etag"], 304), ('"another"', 200)):
            connection.sendall(request("GET", path, Accept=BROWSER, If_None_Match=tag))
            # a 304 tells the length of what it does not send (RFC 9110, 8.6)
            status, headers, sent = answer(connection, head_only=expected == 304)
            assert (status, headers["etag"], headers["content-length"]) == (expected, first["etag"], str(len(body)))
            assert sent == (b"" if expected == 304 else body)


def test_only_get_and_head_are_answered(server: Running) -> None:
    assert server.ask("POST", "/page.js")[0] == 405
    with server.connect() as connection:
        connection.sendall(request("HEAD", "/page.css"))
        assert answer(connection, head_only=True)[1]["content-type"] == "text/css; charset=utf-8"


def test_every_file_of_the_page_is_served_and_goes_into_the_image() -> None:
    there = {path.name for path in FOLDER.iterdir()}
    assert there == {name for name, _ in FILES.values()}
    assert {FOLDER.relative_to(ROOT) / name for name in there} <= set(app_files())


def test_scripts_write_no_markup_and_run_no_text() -> None:
    """What the server sends (labels!) is a stranger's; textContent and append() are the only ways onto the page."""
    forbidden = re.compile(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function|srcdoc)\b")
    assert [path.name for path in FOLDER.glob("*.js") if forbidden.search(path.read_text())] == []
    html = (FOLDER / "page.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script[^>]*>[^<]", html)
    assert "".join(re.findall(r'(?:src|href)="([^"]*)"', html)).count("//") == 1, "only the namespace of the icon's SVG"


def test_another_path_is_not_the_pages() -> None:
    assert page_reply("/page.html", {b"accept": b"text/html"}) is None
    assert page_reply("/", {}) is None
