"""One JSON object per line on stderr: what happened, when, and with which facts. Requests are logged only at level
debug."""

import sys
from datetime import UTC, datetime
from typing import Literal

import msgspec

Level = Literal["debug", "info", "warning", "error"]
LEVELS: tuple[Level, ...] = ("debug", "info", "warning", "error")


class Log(msgspec.Struct, frozen=True):
    """Writes events of `level` and above."""

    level: Level = "info"

    def is_enabled(self, level: Level) -> bool:
        return LEVELS.index(level) >= LEVELS.index(self.level)

    def write(self, level: Level, event: str, **facts: object) -> None:
        if self.is_enabled(level):
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            line = msgspec.json.encode({"time": now, "level": level, "event": event, **facts}, enc_hook=str)
            sys.stderr.write(line.decode() + "\n")
            sys.stderr.flush()
