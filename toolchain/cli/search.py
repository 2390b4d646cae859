"""The command that looks for better recipes."""

from pathlib import Path

from toolchain.cli.choices import Target


def search(
    recipe: Path,
    *,
    target: Target = "openvino",
    hours: float = 1.0,
    max_accuracy_loss: float | None = None,
    storage: str | None = None,
    out: Path | None = None,
    seed: int = 0,
) -> None:
    """Look for recipes that are faster on this machine and lose little accuracy; write, build and compare the best.

    Cuts and times candidates first, trains only those near the front of latency and accuracy, longer the better they
    are. Ends when the time is over; ended before that, the same command goes on. [search] in the recipe says what is
    varied.

    Args:
        recipe: a TOML file; see recipes/
        target: the engine to measure on
        hours: of the whole search, builds at the end and earlier runs included
        max_accuracy_loss: points of accuracy that a recipe may lose; by default what the recipe says
        storage: where trials are kept: an SQLite file, or a database's URL, which several workers may share; by default
            search.sqlite in .toolchain/
        out: the folder of the recipes that are found, the page and the plot; by default .toolchain/search/NAME
        seed: of the sampler
    """
    from toolchain.job.early_checks import check_recipe

    check_recipe(recipe)
    from toolchain.cli.words import require_budget
    from toolchain.report.search_page import write_search
    from toolchain.search.run import SearchRequest
    from toolchain.search.run import search as find_recipes
    from toolchain.views.bundle import as_json
    from toolchain.views.search import search_page, search_summary

    require_budget(hours, max_accuracy_loss, seed)
    record = find_recipes(SearchRequest(recipe, target, hours, max_accuracy_loss, storage, out, seed))
    written = write_search(record)
    print(search_page(record), end="\n\n")
    print(as_json(search_summary(record, written)))
