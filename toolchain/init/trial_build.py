"""The recipe that init wrote, built at once with a tiny budget: whether it goes through, not how good it is.

Knows the recipe's file; what a build does is build/'s.
"""

import re
from pathlib import Path

from toolchain.build.pipeline import build
from toolchain.recipe import read_recipe
from toolchain.records.bundle import Bundle

RELEASE = "try"
EPOCHS, SAMPLES = 1, 64  # of each training; the images that a training and calibration see, at most


def build_trial(recipe: Path, target: str) -> Bundle:
    """The bundle of a copy of `recipe` with shorter steps, named NAME-try; the copy is removed again."""
    place = recipe.with_name(f".{recipe.stem}-try.toml")
    place.write_text(shorten(recipe.read_text(encoding="utf-8"), read_recipe(recipe).name), encoding="utf-8")
    try:
        return build(place, target, RELEASE)
    finally:
        place.unlink()


def shorten(text: str, name: str) -> str:
    """`text` as recipe_text.py writes it, with EPOCHS and SAMPLES, and without a floor: after a single epoch nothing
    is good."""
    text = text.replace(f'name = "{name}"', f'name = "{name}-try"', 1)
    text = re.sub(r"\bunfreeze_after = \d+,? ?|, unfreeze_after = \d+", "", text)
    text = re.sub(r"\bepochs = \d+", f"epochs = {EPOCHS}", text)
    text = re.sub(r"\bsamples = (\d+)", lambda found: f"samples = {min(SAMPLES, int(found[1]))}", text)
    return re.sub(r"(?m)^max_accuracy_loss = .*", "max_accuracy_loss = 100\nmin_accuracy = 0", text)
