"""`toolchain.search`: better recipes than the one that is given, found by measuring."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.api.bundle import BuiltBundle
from toolchain.api.display import show_progress

if TYPE_CHECKING:
    from toolchain.search.record import SearchRecord, SearchRow


class SearchOutcome:
    """What a search found. `print` shows the page that `toolchain search` prints.

    Attributes:
        record: everything that was measured, as search.json has it
    """

    def __init__(self, record: "SearchRecord") -> None:
        self.record = record

    @property
    def best(self) -> "SearchRow | None":
        """The fastest recipe that meets the floor; None where none is faster than the recipe as it is."""
        return self.record.best

    @property
    def front(self) -> "Sequence[SearchRow]":
        """The recipes that were built, the fastest first."""
        return self.record.front

    def bundle(self) -> BuiltBundle:
        """The best recipe as it was built, or the recipe as it is where nothing better was found."""
        from toolchain.records.bundle import open_bundle

        return BuiltBundle(open_bundle(Path((self.best or self.record.baseline).bundle)))

    def __str__(self) -> str:
        from toolchain.views.search import search_page

        return search_page(self.record)

    def __repr__(self) -> str:
        return f"SearchOutcome({self.record.sentence})"

    def _repr_html_(self) -> str:
        """In a notebook: the recipes that were built, as a table and as a plot."""
        from html import escape

        from toolchain.report.html import table
        from toolchain.report.plots import svg
        from toolchain.report.search_page import search_plot
        from toolchain.views.search import search_table

        figure = search_plot(self.record)
        return f"{search_table(self.record, table)}<p>{escape(self.record.sentence)}</p>{svg(figure) if figure else ''}"


def search_recipes(
    recipe: "str | PathLike[str]",
    target: str = "openvino",
    *,
    hours: float = 1.0,
    max_accuracy_loss: float | None = None,
    storage: str | None = None,
    out: "str | PathLike[str] | None" = None,
    seed: int = 0,
) -> SearchOutcome:
    """Look for recipes that are faster on this machine and lose little accuracy; write and build the best of them.

    The same call goes on where it was ended. Recipes, page and plot are written to `out`. What it returns has `best`,
    the fastest recipe that meets the floor, or None; `front`, all that were built; `bundle()`, that of the best; and
    prints as the page of `toolchain search`.

    Args:
        recipe: the path of a TOML file; its [search] says what is varied
        target: the engine to measure on: openvino, tensorrt or onnxruntime
        hours: of the whole search, builds at the end and earlier runs included
        max_accuracy_loss: points of accuracy that may be lost; by default what the recipe says
        storage: an SQLite file, or a database's URL; by default search.sqlite in `.toolchain/`
        out: the folder of the recipes; by default `.toolchain/search/NAME`
        seed: of the sampler

    Raises:
        errors.UsageError: too little time for one trial, or Optuna is not installed
        errors.RecipeError: nothing to vary, or the study is of another recipe
        errors.ToolchainError: everything else that cannot be done, in one line

    Example:
        >>> try:
        ...     print(edge.search("grey28.toml", hours=0.002).best)
        ... except edge.errors.UsageError as error:
        ...     print(str(error).partition(",")[0])
        --hours=0.002: too little for one trial
    """
    from toolchain.report.search_page import write_search
    from toolchain.search.run import SearchRequest, search

    with show_progress():
        folder = None if out is None else Path(out)
        record = search(SearchRequest(Path(recipe), target, hours, max_accuracy_loss, storage, folder, seed))
        write_search(record)
        return SearchOutcome(record)
