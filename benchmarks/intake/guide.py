"""Tables that a topic writes into a page of the guides, between two comments."""

from collections.abc import Sequence
from pathlib import Path

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
END = "<!-- end -->\n"


def write_table(page: str, topic: str, text: str) -> None:
    """What benchmarks/intake/TOPIC.py measured, in place of what it wrote before. ValueError: no place for it."""
    path, begin = GUIDES / page, f"<!-- written by benchmarks/intake/{topic}.py -->\n"
    before, found, rest = path.read_text().partition(begin)
    if not found or END not in rest:
        raise ValueError(f"{path}: expected {begin.strip()} and {END.strip()} around the table")
    path.write_text(f"{before}{begin}{text}{END}{rest.partition(END)[2]}")


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return "\n".join((lines[0], "|---" * len(heads) + "|", *lines[1:])) + "\n"
