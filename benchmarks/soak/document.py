"""Requests that schemathesis generates from the server's own OpenAPI document: valid ones and invalid ones.

    EXAMPLES=2000 ONLY=document make soak

Every response must match the document in status, content type, headers and body, and none may be a server error. Knows
nothing of what the requests mean.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Err
from schemathesis.specs.openapi import checks

from benchmarks import logger
from benchmarks.rows import Row, row
from benchmarks.soak.server_process import run_server

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
BY_DESIGN = (503, 504)  # overload; a request with a deadline of zero
FLAGS = ("--max-body=1048576", "--max-batch=32")
TIMEOUT_S = 10.0
Answers = Counter[int]


def find_flaws(url: str, examples: int, number: int, answers: Answers) -> Iterator[str]:
    """The first flaw of each operation and mode, of `examples` requests each."""
    with requests.Session() as session:
        document = session.get(f"{url}/v2/openapi.json", timeout=TIMEOUT_S).json()
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            if isinstance(result, Err):
                raise result.err()
            operation = result.ok()
            for mode in _modes(operation):
                flaw = _try_operation(operation, mode, url, session, _settings(examples), number, answers)
                if flaw:
                    yield f"{operation.label}, {mode.value}: {flaw}"


def _modes(operation: Any) -> Sequence[schemathesis.GenerationMode]:
    """Only valid requests for an operation that has only a path, in which any text is valid."""
    both = operation.body or operation.headers
    return list(schemathesis.GenerationMode) if both else [schemathesis.GenerationMode.POSITIVE]


def _settings(examples: int) -> settings:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


def _try_operation(
    operation: Any,
    mode: schemathesis.GenerationMode,
    url: str,
    session: requests.Session,
    how: settings,
    number: int,
    answers: Answers,
) -> str:
    @seed(number)
    @how
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: schemathesis.Case[Any]) -> None:
        answer = case.call(base_url=url, session=session, timeout=TIMEOUT_S)
        answers[answer.status_code] += 1
        assert answer.status_code < 500 or answer.status_code in BY_DESIGN, f"{answer.status_code}: {answer.text[:300]}"
        case.validate_response(answer, checks=CHECKS)

    try:
        ask()
    except FailureGroup as group:
        return "; ".join(str(exception) for exception in group.exceptions)
    except (Failure, AssertionError, requests.RequestException) as error:
        return str(error)
    return ""


def document_rows(examples: int, number: int) -> list[Row]:
    """The rows of one run; flaws are logged at once."""
    answers, flaws = Answers(), list[str]()
    with TemporaryDirectory(prefix="soak-") as folder, run_server(Path(folder), *FLAGS) as (server, port, _):
        for flaw in find_flaws(f"http://127.0.0.1:{port}", examples, number, answers):
            logger.info(f"  {flaw}")
            flaws.append(flaw)
        faults = server.faults()
        alive = server.is_alive
    note = f"{sum(answers.values())} requests: " + ", ".join(f"{code} {n}" for code, n in sorted(answers.items()))
    return [
        row("OpenAPI document: operations with responses that it does not allow", len(flaws), "<=", 0, "", note),
        row("OpenAPI document: faults in the log, or the server gone", len(faults) + (not alive), "<=", 0, ""),
    ]
