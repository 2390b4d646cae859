"""Questions to the person at a terminal, for what neither the model nor the data says.

Elsewhere, and with --yes, the default is taken and said.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from toolchain.errors import UsageError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asker:
    """may_ask: there is a person at a terminal who did not say --yes."""

    may_ask: bool

    def ask(self, question: str, default: str) -> str:
        """What was typed, or `default`."""
        if not self.may_ask:
            return default
        sys.stderr.write(f"{question} [{default}] ")
        sys.stderr.flush()
        typed = sys.stdin.readline()
        if not typed:
            raise UsageError("no answer; answer the question, or take every default: --yes")
        return typed.strip() or default

    def confirm(self, question: str) -> bool:
        """Yes unless somebody says no."""
        return not self.ask(f"{question} (yes or no)", "yes").lower().startswith("n")

    def choose(self, question: str, options: Sequence[str]) -> int:
        """The place of the chosen option; the first where nobody can be asked."""
        if not self.may_ask:
            return 0
        listing = "".join(f"\n  {number}  {option}" for number, option in enumerate(options, 1))
        typed = self.ask(f"{question}{listing}\n", "1")
        if not typed.isdigit() or not 1 <= int(typed) <= len(options):
            raise UsageError(f"'{typed}': expected a number from 1 to {len(options)}; type the command again")
        return int(typed) - 1


def asker(yes: bool) -> Asker:
    """yes: nobody is asked."""
    return Asker(not yes and sys.stdin.isatty() and sys.stderr.isatty())
