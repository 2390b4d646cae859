"""Words that a person typed and that name nothing: UsageError, before any library is loaded."""

from pathlib import Path

from toolchain.errors import UsageError

MANIFEST = "manifest.json"  # of a bundle; records/bundle.py reads it


def require_bundle(folder: Path, command: str) -> None:
    """A folder with a manifest; what is in it, open_bundle() checks."""
    if not folder.is_dir():
        raise UsageError(f"{command} {folder}: no such folder; expected a bundle's; build one: toolchain build RECIPE")
    if not (folder / MANIFEST).is_file():
        raise UsageError(f"{command} {folder}: no bundle ({MANIFEST} is not in it); build one: toolchain build RECIPE")


def require_shown(what: str) -> None:
    """What `show` takes: a file of weights, a bundle's folder, or an image's tag, which only the engine knows."""
    place = Path(what)
    if what.endswith(".safetensors"):
        if not place.is_file():
            raise UsageError(f"show {what}: no such file; write one: toolchain weights RECIPE --out={what}")
    elif place.is_dir():
        require_bundle(place, "show")
    elif place.exists():
        raise UsageError(
            f"show {what}: expected a bundle's folder, an image's tag or a .safetensors file, found a file"
        )


def require_evaluated(where: str, recipe: Path | None) -> None:
    """What `eval` takes: a recipe, or a URL or a bundle with a recipe that names the data."""
    from toolchain.job.early_checks import check_recipe

    if where.endswith(".toml"):
        check_recipe(Path(where))
        return
    if not where.startswith(("http://", "https://")):
        require_bundle(Path(where), "eval")
    if recipe is None:
        raise UsageError(f"eval {where}: no test data named; add --recipe=recipes/NAME.toml")
    check_recipe(recipe)


def require_budget(hours: float, max_accuracy_loss: float | None, seed: int) -> None:
    """UsageError for numbers that no search can have."""
    if not 0 < hours < float("inf"):
        raise UsageError(f"--hours={hours:g}: expected more than 0")
    if max_accuracy_loss is not None and not 0 <= max_accuracy_loss <= 100:
        raise UsageError(f"--max-accuracy-loss={max_accuracy_loss:g}: expected percentage points from 0 to 100")
    if seed < 0:
        raise UsageError(f"--seed={seed}: expected 0 or more")
