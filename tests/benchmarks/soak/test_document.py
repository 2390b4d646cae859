"""The server answers as its OpenAPI document says, whatever is asked; and a server that does not is found out."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.soak.document import document_rows, find_flaws
from tests.httpserver import Silent, served

EXAMPLES = int(os.environ.get("EXAMPLES", "40"))
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "one", "version": "1"},
    "paths": {
        "/live": {
            "get": {
                "responses": {
                    "200": {
                        "description": "live",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "object",
                                    "required": ["live"],
                                    "properties": {"live": {"type": "boolean"}},
                                }
                            }
                        },
                    },
                    "503": {"description": "busy"},
                }
            }
        }
    },
}


@contextmanager
def answering(status: int, body: object, kind: str = "application/json") -> Iterator[str]:
    """A server that hands DOCUMENT out, and answers everything else in one way."""

    class Handler(Silent):
        def do_GET(self) -> None:
            is_document = self.path == "/v2/openapi.json"
            content = json.dumps(DOCUMENT if is_document else body).encode()
            self.send_response(200 if is_document else status)
            self.send_header("Content-Type", "application/json" if is_document else kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with served(Handler) as address:
        yield address


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (200, {"live": True}, "application/json", ""),
        (503, {}, "application/json", ""),
        (200, {"live": "yes"}, "application/json", "is not of type"),
        (200, {}, "application/json", "required"),
        (200, {"live": True}, "text/html", "content-type"),
        (418, {}, "application/json", "status code"),
        (500, {"error": "a fault"}, "application/json", "500"),
    ],
)
def test_an_undocumented_response_is_reported(status: int, body: object, kind: str, words: str) -> None:
    answers = Counter[int]()
    with answering(status, body, kind) as url:
        flaws = list(find_flaws(url, 3, 1, answers))
    assert answers[status] > 0
    assert bool(flaws) is bool(words)
    assert all(flaw.startswith("GET /live, positive: ") and words in flaw.lower() for flaw in flaws), flaws


@pytest.mark.slow
def test_every_response_is_documented() -> None:
    flawed, faults = document_rows(EXAMPLES, 1)
    assert int(flawed.note.split()[0]) > 100
    assert (flawed.value, faults.value) == (0, 0), flawed
