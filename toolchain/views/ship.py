"""Edge servers as text: what they are, what serves, what was done. Knows how it looks; asks nobody."""

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

    from deploy.servers.server import AuditEntry
    from deploy.ship.rollout import RolloutResult
    from deploy.ship.server_info import ServerInfo
    from deploy.ship.ship import DeployedModel
    from deploy.ship.waves import WavesResult

logger = logging.getLogger(__name__)
MB, GB = 1e6, 1e9


class Board(logging.Handler):
    """What each server is doing: messages in a log, a table that is rewritten on a terminal."""

    def __init__(self, live: "Live | None") -> None:
        super().__init__()
        self._live, self._rows = live, dict[str, tuple[str, str, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        """`SERVER: what it does`, or what concerns no server alone."""
        text = record.getMessage()
        server, _, doing = text.partition(": ")
        assert self._live
        if not doing or " " in server:
            self._live.console.print(text)
        elif self._rows.get(server, ("",))[0] in ("", "at work"):
            self._show(server, "at work", doing)

    def show_result(self, wave: int, told: "RolloutResult") -> None:
        """A server is done."""
        if self._live is None:
            reason = f": {told.reason}" if told.reason else ""
            logger.info(f"wave {wave}: {told.server}: {told.outcome}{reason}")
        else:
            self._show(told.server, told.outcome, told.reason, f"{wave}")

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
    """On stderr, for as long as the block lasts."""
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
    """A row for each server that was reached for, and who was left as it is."""
    rows = [
        (one.server, one.outcome, one.before or None, one.live or None, one.sent_bytes / MB, one.verdict, one.reason)
        for one in fleet.results
    ]
    columns = {"server": "", "": "", "before": "", "serves": "", "sent, MB": ".2f", "gate": "", "why": ""}
    parts = [table(rows, columns)] if rows else []
    if fleet.not_started:
        parts.append(f"not begun, after {len(fleet.failures)} that did not take it: {', '.join(fleet.not_started)}")
    return "\n\n".join(parts)


def plan_page(planned: Mapping[str, Sequence[str]]) -> str:
    return "\n".join(f"{name}:\n" + "\n".join(f"  {line}" for line in lines) for name, lines in planned.items())


def servers_table(found: "Sequence[ServerInfo]") -> str:
    rows = [
        (
            one.server,
            one.kind,
            one.gpu or (f"{short_device(one.cpu)} ({' '.join(one.features)})" if one.cpu else one.error),
            one.cores or None,
            one.memory_bytes / GB if one.memory_bytes else None,
            None if one.free_bytes is None else one.free_bytes / GB,
            one.engine or None,
            ", ".join(one.serves) or None,
        )
        for one in found
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


def status_table(found: "Sequence[DeployedModel]") -> str:
    rows = []
    for one in found:
        others = [release for release in one.images if release != one.live]
        last = f"{one.last.at}: {one.last.what} ({one.last.release}): {one.last.outcome}" if one.last else None
        state = one.error or ("ready" if one.serves else "does not serve" if one.live else "nothing shipped yet")
        rows.append((one.server, one.model or None, one.live or None, state, ", ".join(others) or None, last))
    return table(rows, ("server", "model", "serves", "", "also there", "last"))


def audit_table(found: "Mapping[str, Sequence[AuditEntry]]") -> str:
    rows = [
        (name, one.at, one.who, one.what, one.release, one.outcome, one.reason or None)
        for name, notes in found.items()
        for one in notes
    ]
    return table(rows, ("server", "at", "who", "what", "release", "", "why"))
