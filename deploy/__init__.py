"""Bundle -> image -> servers, and whether it may go."""

from collections.abc import Callable

Say = Callable[[str], None]  # where progress goes, a line at a time
