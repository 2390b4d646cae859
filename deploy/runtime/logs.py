"""One JSON object a line on stderr: what happened, when, with what. No request is logged unless asked for."""

import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")


class Log(msgspec.Struct, frozen=True):
    """Writes events of `level` and above."""

    level: Level = "info"

    def wants(self, level: Level) -> bool:
        return LEVELS.index(level) >= LEVELS.index(self.level)

    def write(self, level: Level, event: str, **facts: object) -> None:
        if self.wants(level):
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = msgspec.json.encode({"time": now, "level": level, "event": event, **facts}, enc_hook=str)
            sys.stderr.write(line.decode() + "\n")
            sys.stderr.flush()
