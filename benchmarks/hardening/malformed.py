"""Malformed requests over HTTP and gRPC, and mutated images, by the hundred thousand: see benchmarks.soak."""

import os

from benchmarks.rows import Row, guarded_rows, print_rows
from benchmarks.soak.fuzz import case_names, fuzz_rows
from toolchain.cli.console import log_to_stderr

QUICK = bool(os.environ.get("QUICK"))
COUNT = 3_000 if QUICK else 200_000


def rows() -> list[Row]:
    count, seed = int(os.environ.get("COUNT", COUNT)), int(os.environ.get("SEED", "1"))
    return fuzz_rows(list(case_names(count, seed)), count)


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("malformed", rows))
