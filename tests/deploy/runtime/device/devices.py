"""Recorded devices: a folder that stands for `/`, from a file under recorded/."""

import re
from pathlib import Path

RECORDED = Path(__file__).parent / "recorded"


def device(folder: Path, name: str) -> Path:
    """Unfold recorded/<name>.txt into `folder`; see recorded/README.md."""
    text = (RECORDED / f"{name}.txt").read_text()
    for path, content in re.findall(r"^@@@ (\S+)\n(.*?)(?=^@@@ |\Z)", text, re.DOTALL | re.MULTILINE):
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder
