"""`make soak`: malformed requests, then overload; a row for what must hold of each.

make soak                                   # 100,000 malformed requests, ten minutes of overload
QUICK=1 make soak                           # 3,000, 20 s
COUNT=500000 SEED=7 ONLY=fuzz python -m benchmarks.soak
"""

import os
import sys

from benchmarks.rows import print_rows
from benchmarks.soak import fuzz, overload
from toolchain.progress import say

QUICK = bool(os.environ.get("QUICK"))
COUNT, SECONDS = (3_000, 20.0) if QUICK else (100_000, 600.0)
PARTS = ("fuzz", "overload")


def main() -> None:
    only = os.environ.get("ONLY", "")
    if only not in ("", *PARTS):
        sys.exit(f"ONLY: no '{only}'; there are: {', '.join(PARTS)}")
    count, seed = int(os.environ.get("COUNT", COUNT)), int(os.environ.get("SEED", "1"))
    rows = []
    if only != "overload":
        say(f"fuzz: {count} malformed requests, seed {seed}")
        rows += fuzz.fuzzed(list(fuzz.names(count, seed)), count)
    if only != "fuzz":
        rows += overload.measured(SECONDS)
    print_rows(rows)


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"soak: {error}")
