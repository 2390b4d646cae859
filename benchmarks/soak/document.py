"""Requests made from the server's own OpenAPI document, by schemathesis: those it allows, and those it does not.

    EXAMPLES=2000 ONLY=document make soak

Every answer must be one that the document has: status, type, headers and body; and none may be a fault of the server.
Knows nothing of what the requests mean.
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
from benchmarks.soak.watched import watched

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
BY_DESIGN = (503, 504)  # too much to do; a request that asks for no time at all
FLAGS = ("--max-body=1048576", "--max-batch=32")
TIMEOUT_S = 10.0
Answers = Counter[int]


def flaws(url: str, examples: int, number: int, answers: Answers) -> Iterator[str]:
    """What was wrong with an answer, the first of each operation; `examples` requests for each and each mode."""
    with requests.Session() as session:
        document = session.get(f"{url}/v2/openapi.json", timeout=TIMEOUT_S).json()
        for found in schemathesis.openapi.from_dict(document).get_all_operations():
            if isinstance(found, Err):
                raise found.err()
            operation = found.ok()
            for mode in _modes(operation):
                flaw = _tried(operation, mode, url, session, _settings(examples), number, answers)
                if flaw:
                    yield f"{operation.label}, {mode.value}: {flaw}"


def _modes(operation: Any) -> Sequence[schemathesis.GenerationMode]:
    """Where there is but a path, and any text will do in it, nothing can be given wrongly."""
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


def _tried(
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
        return "; ".join(str(one) for one in group.exceptions)
    except (Failure, AssertionError, requests.RequestException) as error:
        return str(error)
    return ""


def conforming(examples: int, number: int) -> list[Row]:
    """Rows of one run; flaws are told at once."""
    answers, found = Answers(), list[str]()
    with TemporaryDirectory(prefix="soak-") as folder, watched(Path(folder), *FLAGS) as (server, port, _):
        for flaw in flaws(f"http://127.0.0.1:{port}", examples, number, answers):
            logger.info(f"  {flaw}")
            found.append(flaw)
        faults = server.faults()
        alive = server.is_alive
    note = f"{sum(answers.values())} requests: " + ", ".join(f"{code} {n}" for code, n in sorted(answers.items()))
    return [
        row("OpenAPI document: operations answered otherwise than it says", len(found), "<=", 0, "", note),
        row("OpenAPI document: faults in the log, or the server gone", len(faults) + (not alive), "<=", 0, ""),
    ]
