"""What a search shows while it runs: the front and the trial at work on a terminal, a line a trial in a pipe.

Drawn between pieces of work and by no thread of its own: what is timed may be at work.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from toolchain.errors import printable
from toolchain.progress import stderr
from toolchain.search.budget import format_duration
from toolchain.search.outcomes import TrialOutcome
from toolchain.search.record import SearchPoint
from toolchain.views.search import front_table

if TYPE_CHECKING:
    from rich.live import Live

logger = logging.getLogger(__name__)
TRAINING = "toolchain.compress.training.loop"
OURS = "toolchain.search"
EVERY_S = 60.0  # of the epochs in a pipe
Points = Callable[[], Sequence[SearchPoint]]


class SearchWatch(logging.Handler):
    """Gets the training's own messages, too, of which the last is shown. points: the front so far; left_s: until the
    builds at the end begin."""

    def __init__(self, points: Points, left_s: Callable[[], float]) -> None:
        super().__init__(logging.INFO)
        self._points, self._left_s = points, left_s
        self._live: Live | None = None
        self._now, self._epoch, self._shown = "", "", time.monotonic()

    def begin(self, trial: int, what: str) -> None:
        """Shown until the next call."""
        self._now, self._epoch, self._shown = f"trial {trial}: {what}", "", time.monotonic()
        self._draw()

    def end_trial(self, outcome: TrialOutcome, epochs: int) -> None:
        """A line in a pipe; above the table on a terminal."""
        head = f"trial {outcome.trial}: {outcome.proposal.describe()}"
        if outcome.loss is None:
            logger.info(f"{head}: left out: {outcome.reason}; {self._time_left()}")
        else:
            logger.info(
                f"{head}: {1 / outcome.ratio:.2f} times as fast, {outcome.loss:.2f} ± {outcome.error:.2f} points lost "
                f"after {epochs} epochs; {self._time_left()}"
            )
        self._draw()

    def emit(self, record: logging.LogRecord) -> None:
        self._epoch = record.getMessage().strip()
        if self._live is None and time.monotonic() - self._shown >= EVERY_S:
            self._shown = time.monotonic()
            logger.info(f"  {self._now}: {self._epoch}")
        self._draw()

    @contextmanager
    def showing(self) -> Iterator[None]:
        """Withhold what the stages say while the block runs, and show the search instead."""
        levels = {name: logging.getLogger(name).level for name in ("toolchain", "deploy", OURS, TRAINING)}
        shown = logging.getLogger("toolchain").getEffectiveLevel() <= logging.INFO
        training = logging.getLogger(TRAINING)
        if not shown:
            yield
            return
        logging.getLogger("toolchain").setLevel(logging.WARNING)
        logging.getLogger("deploy").setLevel(logging.WARNING)
        logging.getLogger(OURS).setLevel(logging.INFO)
        training.setLevel(logging.INFO)
        training.addHandler(self)
        training.propagate = False
        try:
            with self._on_terminal():
                yield
        finally:
            training.propagate = True
            training.removeHandler(self)
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)

    @contextmanager
    def _on_terminal(self) -> Iterator[None]:
        if not sys.stderr.isatty():
            yield
            return
        from rich.live import Live

        with Live(
            console=stderr(), auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        ) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def _time_left(self) -> str:
        return f"{format_duration(max(0.0, self._left_s()))} left"

    def _draw(self) -> None:
        if self._live is None:
            return
        from rich.text import Text

        points = self._points()
        front = f"{front_table(points)}\n\n" if any(point.is_front for point in points) else ""
        epoch = f"\n  {self._epoch}" if self._epoch else ""
        self._live.update(Text(printable(f"\n{front}{self._now}{epoch}\n{self._time_left()}")), refresh=True)
