"""`make soak`: malformed requests, requests from the OpenAPI document (valid and invalid), attacks on a server in a
container of 1 GB, overload; a row per bound.

make soak                                   # 200,000 malformed requests, a minute an attack, ten minutes of overload
QUICK=1 make soak                           # 3,000, 20 s
COUNT=500000 SEED=7 ONLY=fuzz python -m benchmarks.soak
EXAMPLES=5000 ONLY=document make soak       # for each operation of the document and each mode
"""

import os
import sys

from benchmarks import logger
from benchmarks.hardening import server
from benchmarks.rows import Row, guarded_rows, print_rows
from benchmarks.soak import document, fuzz, overload
from toolchain.cli.console import log_to_stderr

QUICK = bool(os.environ.get("QUICK"))
COUNT, EXAMPLES, SECONDS = (3_000, 50, 20.0) if QUICK else (200_000, 1_000, 600.0)
PARTS = ("fuzz", "document", "attacks", "overload")


def main() -> None:
    log_to_stderr()
    only = os.environ.get("ONLY", "")
    if only not in ("", *PARTS):
        sys.exit(f"ONLY: no '{only}'; the parts are: {', '.join(PARTS)}")
    count, seed = int(os.environ.get("COUNT", COUNT)), int(os.environ.get("SEED", "1"))
    examples = int(os.environ.get("EXAMPLES", EXAMPLES))
    rows: list[Row] = []
    if only in ("", "fuzz"):
        logger.info(f"fuzz: {count} malformed requests, seed {seed}")
        rows += guarded_rows("fuzz", lambda: fuzz.fuzz_rows(list(fuzz.case_names(count, seed)), count))
    if only in ("", "document"):
        logger.info(f"document: {examples} requests for each operation and mode, seed {seed}")
        rows += guarded_rows("document", lambda: document.document_rows(examples, seed))
    if only in ("", "attacks"):
        rows += guarded_rows("attacks", server.rows)
    if only in ("", "overload"):
        rows += guarded_rows("overload", lambda: overload.overload_rows(SECONDS))
    print_rows(rows)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"soak: {error}")
