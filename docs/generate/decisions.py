"""The list of decisions, from their files."""

from pathlib import Path

from docs.generate.markdown import page

FOLDER = Path(__file__).parent.parent / "decisions"
ABOUT = (
    "What was decided, why, and what was measured for it. A decision that no longer holds says which one replaced it."
)


def decisions_page() -> str:
    lines = [f"- {path.name[:4]}: [{_title(path)}]({path.name})" for path in sorted(FOLDER.glob("[0-9]*.md"))]
    return page("Decisions", "the files of this folder", ABOUT, "\n".join(lines))


def _title(path: Path) -> str:
    return path.read_text().partition("\n")[0].lstrip("# ").removeprefix(path.name[:4]).strip()
