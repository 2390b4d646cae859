"""What is posted, and that neither the address nor a failure ever gets anywhere."""

import json
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from deploy.ship.rollout import RolloutResult
from deploy.ship.waves import WavesResult
from tests.deploy.ledger.ledgers import gate_of
from tests.httpserver import Silent, served
from toolchain import webhook
from toolchain.webhook import WebhookEvent, gate_event, rollout_event, send_event

EVENT = WebhookEvent("null 2: regressed", "gate", "regressed", "p50 is slower", "null", "2", "null", "1")
SECRET = "T0KEN-of-a-channel"


class HookServer(Silent):
    """Answers with the status that the path begins with."""

    received: ClassVar[list[tuple[str, str, bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, self.headers["Content-Type"], body))
        status = int(self.path.split("/")[1])
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.server_address[1]}/200/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def address() -> Iterator[str]:
    HookServer.received.clear()
    with served(HookServer) as place:
        yield place


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # a test that ran a command in this process has handed our messages to a handler of their own
    monkeypatch.setattr(logging.getLogger("toolchain"), "propagate", True)
    monkeypatch.setattr(webhook.logger, "disabled", False)
    caplog.set_level(logging.DEBUG, "toolchain")
    monkeypatch.delenv(webhook.VARIABLE, raising=False)
    monkeypatch.delenv(webhook.FILE_VARIABLE, raising=False)


@pytest.mark.parametrize("place", ["variable", "file"])
def test_the_document_is_posted_where_the_environment_says(
    place: str, address: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = f"{address}/200/{SECRET}"
    if place == "file":
        (tmp_path / "secret").write_text(f"{url}\n")
        monkeypatch.setenv(webhook.FILE_VARIABLE, str(tmp_path / "secret"))
    else:
        monkeypatch.setenv(webhook.VARIABLE, url)
    with caplog.at_level(logging.DEBUG):
        send_event(EVENT)
    ((path, kind, body),) = HookServer.received
    assert (path, kind) == (f"/200/{SECRET}", "application/json")
    assert json.loads(body) == {
        "text": "null 2: regressed",
        "event": "gate",
        "outcome": "regressed",
        "reason": "p50 is slower",
        "model": "null",
        "release": "2",
        "target": "null",
        "baseline": "1",
        "servers": {},
        "format": 1,
    }
    assert SECRET not in caplog.text


def test_nothing_is_posted_where_nothing_is_set(address: str, caplog: pytest.LogCaptureFixture) -> None:
    send_event(EVENT)
    assert HookServer.received == []
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{address}/500/{secret}", "it answered with HTTP 500"),
        ("{address}/302/{secret}", "it answered with HTTP 302"),
        ("http://127.0.0.1:1/{secret}", "not reached (Connection refused)"),
        ("ftp://127.0.0.1/{secret}", "expected an address that begins with https:// or http://"),
        ("{secret}", "expected an address that begins with https:// or http://"),
        ("http://127.0.0.1:port/{secret}", "InvalidURL"),
        ("http://127.0.0.1/{secret} \x01", "InvalidURL"),
    ],
)
def test_a_failure_is_a_warning_without_the_address(
    url: str, words: str, address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(webhook.VARIABLE, url.format(address=address, secret=SECRET))
    send_event(EVENT)
    assert words in caplog.text
    assert "the gate is what it is all the same" in caplog.text
    assert SECRET not in caplog.text
    assert not any(path.endswith("/elsewhere") for path, _, _ in HookServer.received)


def test_a_secret_file_that_is_missing_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(webhook.FILE_VARIABLE, "/no/such/file")
    send_event(EVENT)
    assert "No such file or directory" in caplog.text


def test_who_takes_a_connection_and_says_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv(webhook.VARIABLE, f"http://127.0.0.1:{silent.getsockname()[1]}/{SECRET}")
        send_event(EVENT)
    assert SECRET not in caplog.text
    assert "the webhook was not told" in caplog.text


def test_a_gate_is_told_in_a_sentence_and_in_fields() -> None:
    gate = gate_of("a" * 64, "b" * 64, reason="p50 is slower", verdict="regressed")
    event = gate_event(gate, "image:2", gate.reason)
    assert (event.event, event.outcome, event.reason) == ("gate", "regressed", "p50 is slower")
    assert event.text.endswith(": regressed: p50 is slower")
    first = gate_event(None, "image:1", "a first release")
    assert (first.outcome, first.text) == ("passed", "image:1: passed: a first release")


def test_a_rollout_names_every_servers_outcome() -> None:
    results = (RolloutResult("a", "net:2", "live"), RolloutResult("b", "net:2", "refused", reason="p50 is slower"))
    event = rollout_event(WavesResult(results, ("c",)))
    assert event.text == "net:2: stopped: on 1 of 3 servers: b: refused: p50 is slower"
    assert event.servers == {"a": "live", "b": "refused", "c": "not started"}
    assert rollout_event(WavesResult(results[:1], ())).outcome == "live"
