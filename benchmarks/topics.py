"""A bench of several topics, each a module of its package with `rows() -> list[Row]`: ONLY=topic,topic runs some."""

import os
from collections.abc import Sequence
from importlib import import_module

from benchmarks.rows import Row, guarded_rows, print_rows
from toolchain.cli.console import log_to_stderr


def run_topics(package: str, topics: Sequence[str]) -> None:
    """Print the rows of the topics that are asked for; one that ends in an error is a row that was not measured."""
    chosen = os.environ.get("ONLY", "").split(",") if os.environ.get("ONLY") else topics
    unknown = sorted(set(chosen) - set(topics))
    if unknown:
        raise SystemExit(f"no topic {', '.join(unknown)}; expected some of {', '.join(topics)}: ONLY=TOPIC")
    log_to_stderr()
    print_rows([row for topic in chosen for row in _topic_rows(package, topic)])


def _topic_rows(package: str, topic: str) -> list[Row]:
    return guarded_rows(topic, lambda: import_module(f"{package}.{topic}").rows())
