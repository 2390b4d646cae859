"""A user's own folder: the nets and weights of examples/own_model, her pictures, and recipes with a word changed."""

import importlib.util
from pathlib import Path
from shutil import copy2

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_model"


def make_own(folder: Path) -> Path:
    """grey28's pictures as the example makes them, a part of wide's: these are fifty times as large."""
    for path in EXAMPLE.iterdir():
        if path.suffix in (".py", ".toml", ".safetensors"):
            copy2(path, folder)
    spec = importlib.util.spec_from_file_location("make_data", folder / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(data)
    data.make("grey28", 7, (28, 28, 1), 140, 40, 60)
    data.make("wide", 4, (96, 160, 3), 50, 20, 90)
    return folder


def changed(recipe: Path, *changes: tuple[str, str], to: str = "") -> Path:
    """A copy of `recipe` beside it, named `to`, each (old, new) of `changes` made; old must be there."""
    text = recipe.read_text()
    for old, new in changes:
        assert text.count(old), f"{recipe}: no {old!r}"
        text = text.replace(old, new)
    copy = recipe.with_name(to or f"changed-{recipe.name}")
    copy.write_text(text)
    return copy
