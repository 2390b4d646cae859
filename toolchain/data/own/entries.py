"""What lies in a folder, without what operating systems and tools leave there.

Knows nothing of images or classes.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

# Anything that starts with a dot is left out too: .DS_Store, ._* (macOS), .ipynb_checkpoints, .git, .thumbnails
LEFT_BEHIND = frozenset(
    (
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),  # Windows
        *("__macosx", "icon\r", "@eadir", "#recycle", "lost+found", "__pycache__"),
    )
)


@dataclass(frozen=True)
class FolderReader:
    """Lists folders; skipped: what was left out."""

    skipped: set[Path] = field(default_factory=set)

    def list_entries(self, folder: Path) -> list[Path]:
        """What people put into `folder`, sorted by name as other systems would write it."""
        entries = []
        for path in folder.iterdir():
            if path.name.startswith(".") or path.name.casefold() in LEFT_BEHIND:
                self.skipped.add(path)
            else:
                entries.append(path)
        return sorted(entries, key=lambda path: composed(path.name))

    def describe_skipped(self) -> str | None:
        """One line for all that was left out; None where nothing was."""
        if not self.skipped:
            return None
        counts = Counter("._*" if path.name.startswith("._") else path.name for path in self.skipped)
        named = ", ".join(f"{name} ({count})" for name, count in sorted(counts.items()))
        return f"left out {len(self.skipped)} entries that are no images: {named}"


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), as Linux and Windows write it; macOS may decompose accents (NFD)."""
    return unicodedata.normalize("NFC", name)
