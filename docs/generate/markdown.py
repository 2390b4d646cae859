"""The little Markdown that the reference needs. Text in, text out."""

from collections.abc import Iterable, Sequence

BANNER = "<!-- Written by `make docs-reference` from {source}; a change here is lost. -->"


def page(title: str, source: str, *parts: str) -> str:
    return "\n\n".join([BANNER.format(source=source), f"# {title}", *(part for part in parts if part)]) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells may hold `|` and line breaks. A column that is empty in every row is left out."""
    body = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    used = [at for at in range(len(head)) if any(row[at] for row in body)]
    lines = [[head[at] for at in used], ["---"] * len(used), *([row[at] for at in used] for row in body)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def fence(text: str, language: str = "") -> str:
    return f"```{language}\n{text.strip()}\n```"


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
