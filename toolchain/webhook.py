"""A gate's verdict or a rollout's result, posted as one JSON document to an address of the user's.

The document is described in docs/guides/webhooks.md.

The address may be a secret, as Slack's are: it comes from the environment or a file, and no message names it. What goes
wrong is a warning and never changes what it tells of.
"""

import logging
import os
from http.client import HTTPException
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Literal
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import msgspec

from toolchain.errors import printable
from toolchain.records.gate import BASELINE, CANDIDATE, Gate

if TYPE_CHECKING:
    from deploy.ship.waves import WavesResult

logger = logging.getLogger(__name__)

VARIABLE, FILE_VARIABLE = "TOOLCHAIN_WEBHOOK", "TOOLCHAIN_WEBHOOK_FILE"
TIMEOUT_S = 10.0  # for all of it: looking the name up, connecting, sending, and the status of the answer
FORMAT = 1


class WebhookEvent(msgspec.Struct, frozen=True):
    """text: the whole in a sentence, the field that Slack and Mattermost show. outcome: a gate's verdict; of a rollout,
    live or stopped. servers: outcome by server, of a rollout."""

    text: str
    event: Literal["gate", "rollout"]
    outcome: str
    reason: str = ""
    model: str = ""
    release: str = ""
    target: str = ""
    baseline: str = ""
    servers: dict[str, str] = {}
    format: int = FORMAT


def gate_event(gate: Gate | None, candidate: str, reason: str) -> WebhookEvent:
    """None: a first release, with nothing to compare it with."""
    if gate is None:
        return WebhookEvent(f"{candidate}: passed: {reason}", "gate", "passed", reason, release=candidate)
    mine, baseline = gate.sides[CANDIDATE], gate.sides.get(BASELINE)
    return WebhookEvent(
        text=f"{mine.name} {mine.release} ({mine.precision}): {gate.verdict}: {gate.reason}",
        event="gate",
        outcome=gate.verdict,
        reason=gate.reason,
        model=mine.name,
        release=mine.release,
        baseline=baseline.release if baseline else "",
    )


def rollout_event(fleet: "WavesResult") -> WebhookEvent:
    from deploy.ship.waves import SUCCESSES

    servers = {one.server: one.outcome for one in fleet.results} | dict.fromkeys(fleet.not_started, "not started")
    release = fleet.results[0].release if fleet.results else ""
    reason = "; ".join(f"{one.server}: {one.outcome}: {one.reason}" for one in fleet.failures)
    outcome = "live" if fleet.is_complete else "stopped"
    count = sum(one.outcome in SUCCESSES for one in fleet.results)
    text = f"{release}: {outcome}: on {count} of {len(servers)} servers{': ' if reason else ''}{reason}"
    return WebhookEvent(text, "rollout", outcome, reason, release=release, servers=servers)


class RefuseRedirects(HTTPRedirectHandler):
    """An address that points elsewhere would carry the document to somebody whom nobody named."""

    def redirect_request(self, *_: object) -> None:
        return None


def send_event(event: WebhookEvent) -> None:
    """Post it where the environment names an address; a warning where that fails."""
    if not os.environ.get(VARIABLE) and not os.environ.get(FILE_VARIABLE):
        return
    outcome: list[str] = []
    thread = Thread(target=lambda: outcome.append(_post_event(event)), daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    trouble = outcome[0] if outcome else f"no answer within {TIMEOUT_S:g} s"
    if trouble:
        logger.warning(f"warning: the webhook was not told: {trouble}; the {event.event} is what it is all the same")
    else:
        logger.info(f"webhook: told of the {event.event}")


def _post_event(event: WebhookEvent) -> str:
    """What went wrong, in words that hold no part of the address; '' for nothing."""
    try:
        address = _read_address()
        if not address.startswith(("https://", "http://")):
            return f"{VARIABLE}: expected an address that begins with https:// or http://"
        request = Request(address, msgspec.json.encode(event), {"Content-Type": "application/json"}, method="POST")
        with build_opener(RefuseRedirects).open(request, timeout=TIMEOUT_S):
            return ""
    except HTTPError as error:
        return f"it answered with HTTP {error.code}"
    except URLError as error:
        return f"not reached ({_describe(error.reason)})"
    except (OSError, ValueError, HTTPException) as error:
        return _describe(error)


def _read_address() -> str:
    if file := os.environ.get(FILE_VARIABLE):
        return Path(file).read_text().strip()
    return os.environ[VARIABLE].strip()


def _describe(error: object) -> str:
    """An error of the system by its words, any other by its kind alone: its text may quote the address."""
    if isinstance(error, OSError) and error.strerror:
        return printable(error.strerror)
    return type(error).__name__
