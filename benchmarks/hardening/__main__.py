"""`make bench-hardening`: attacks on shipping and on the server, int8 on other CPUs, other engines, and their bounds.

QUICK=1: fewer and shorter attacks, and the rows say so. ONLY=topic,topic runs some topics; each is also a module of its
own (`python -m benchmarks.hardening.TOPIC`). Run it with nothing beside it.
"""

import os
from importlib import import_module

from benchmarks.rows import Row, guarded_rows, print_rows

TOPICS: tuple[str, ...] = ("sticks", "server", "malformed", "throughput", "engines", "saturation", "fleet")
"""Modules of this package; each has `rows() -> list[Row]`."""


def topic_rows(topic: str) -> list[Row]:
    """The rows of a topic; a topic that ends in an error is one row that could not be measured."""
    return guarded_rows(topic, lambda: import_module(f"benchmarks.hardening.{topic}").rows())


def main() -> None:
    chosen = os.environ.get("ONLY", "").split(",") if os.environ.get("ONLY") else TOPICS
    unknown = sorted(set(chosen) - set(TOPICS))
    if unknown:
        raise SystemExit(f"no topic {', '.join(unknown)}; expected some of {', '.join(TOPICS)}: ONLY=TOPIC")
    print_rows([row for topic in chosen for row in topic_rows(topic)])


if __name__ == "__main__":
    main()
