"""Edge servers as text: their hardware, the releases that serve, and the audit records. Contacts no server."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from toolchain.progress import stderr
from toolchain.tables import table
from toolchain.views.bundle import short_device

if TYPE_CHECKING:
    from rich.live import Live

    from deploy.servers.audit_log import AuditCheck
    from deploy.ship.audits import ServerAudit
    from deploy.ship.rollout import RolloutResult
    from deploy.ship.server_info import ServerInfo
    from deploy.ship.ship import DeployedModel
    from deploy.ship.waves import WavesResult

logger = logging.getLogger(__name__)
MB, GB = 1e6, 1e9


class Board(logging.Handler):
    """The progress of each server: log messages or, on a terminal, a live table."""

    def __init__(self, live: "Live | None") -> None:
        super().__init__()
        self._live, self._rows = live, dict[str, tuple[str, str, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        """Show `SERVER: action` in the server's row; print any other message above the table."""
        text = record.getMessage()
        server, _, doing = text.partition(": ")
        assert self._live
        if not doing or " " in server:
            self._live.console.print(text)
        elif self._rows.get(server, ("",))[0] in ("", "at work"):
            self._show(server, "at work", doing)

    def show_result(self, wave: int, result: "RolloutResult") -> None:
        """Show the final result of a server."""
        if self._live is None:
            reason = f": {result.reason}" if result.reason else ""
            logger.info(f"wave {wave}: {result.server}: {result.outcome}{reason}")
        else:
            self._show(result.server, result.outcome, result.reason, f"{wave}")

    def _show(self, server: str, state: str, words: str, wave: str = "") -> None:
        from rich.table import Table

        assert self._live
        self._rows[server] = (state, words, wave)
        drawn = Table("wave", "server", "", "", box=None, pad_edge=False)
        for name, (at, doing, number) in self._rows.items():
            drawn.add_row(number, name, at, doing)
        self._live.update(drawn)


@contextmanager
def board() -> "Iterator[Board]":
    """A board on stderr while the block runs."""
    if not sys.stderr.isatty():
        yield Board(None)
        return
    from rich.live import Live

    logger = logging.getLogger("deploy")
    before = logger.handlers
    with Live(console=stderr(), refresh_per_second=4) as live:
        logger.handlers = [shown := Board(live)]
        try:
            yield shown
        finally:
            logger.handlers = before


def fleet_page(fleet: "WavesResult") -> str:
    """A row for each server that was attempted, and the names of those that were not."""
    rows = [
        (
            result.server,
            result.outcome,
            result.before or None,
            result.live or None,
            result.sent_bytes / MB,
            result.verdict,
            result.reason,
        )
        for result in fleet.results
    ]
    columns = {"server": "", "": "", "before": "", "serves": "", "sent, MB": ".2f", "gate": "", "reason": ""}
    parts = [table(rows, columns)] if rows else []
    if fleet.not_started:
        parts.append(f"not started, after {len(fleet.failures)} failed: {', '.join(fleet.not_started)}")
    return "\n\n".join(parts)


def plan_page(planned: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(f"{name}:\n" + "\n".join(f"  {line}" for line in lines) for name, lines in planned.items())


def servers_table(infos: "Sequence[ServerInfo]") -> str:
    rows = [
        (
            info.server,
            info.kind,
            info.gpu or (f"{short_device(info.cpu)} ({' '.join(info.features)})" if info.cpu else info.error),
            info.cores or None,
            info.memory_bytes / GB if info.memory_bytes else None,
            None if info.free_bytes is None else info.free_bytes / GB,
            info.engine or None,
            ", ".join(info.serves) or None,
        )
        for info in infos
    ]
    columns = {
        "server": "",
        "kind": "",
        "device": "",
        "cores": "",
        "memory, GB": ".1f",
        "free, GB": ".1f",
        "engine": "",
        "serves": "",
    }
    return table(rows, columns)


def status_table(models: "Sequence[DeployedModel]") -> str:
    rows = []
    for model in models:
        others = [release for release in model.images if release != model.live]
        last = (
            f"{model.last.at}: {model.last.what} ({model.last.release}): {model.last.outcome}" if model.last else None
        )
        state = model.error or ("ready" if model.serves else "does not serve" if model.live else "nothing shipped yet")
        rows.append((model.server, model.model or None, model.live or None, state, ", ".join(others) or None, last))
    return table(rows, ("server", "model", "serves", "", "other releases", "last action"))


def audit_page(audits: "Sequence[ServerAudit]") -> str:
    rows = [
        (one.server, entry.at, entry.who, entry.what, entry.release, entry.outcome, entry.reason or None)
        for one in audits
        for entry in one.entries
    ]
    listed = table(rows, ("server", "at", "who", "what", "release", "", "reason"))
    return "\n".join([listed, *(one.error for one in audits if one.error)])


def audit_check_page(checks: "Mapping[str, AuditCheck]") -> str:
    """A row for each server, then a line for each problem."""
    rows = [
        (name, "whole" if check.passed else "NOT WHOLE" if check.problems else "not read", check.lines, check.unsigned)
        for name, check in checks.items()
    ]
    listed = table(rows, {"server": "", "audit": "", "lines": "d", "from before they were signed": "d"})
    problems = [f"{name}: {problem}" for name, check in checks.items() for problem in check.problems]
    first = [name for name, check in checks.items() if check.passed and not check.seen]
    if first:
        problems.append(
            f"{', '.join(first)}: first seen by this machine: lines missing at the end cannot be noticed yet"
        )
    return "\n".join([listed, *problems, *(check.error for check in checks.values() if check.error)])
