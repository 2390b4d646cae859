"""What a search says at its end, as text, page and plot."""

import json
from pathlib import Path

import pytest

from tests.search.outcomes import outcome
from toolchain.recipe import DataSpec, ModelSpec, Recipe
from toolchain.records.tensors import Preprocessing
from toolchain.report.search_page import write_search
from toolchain.search.compose import RecipeBase
from toolchain.search.final import best_row
from toolchain.search.record import SearchCost, SearchRecord, SearchRow
from toolchain.search.result import describe_end
from toolchain.search.rungs import search_points
from toolchain.views.bundle import as_json
from toolchain.views.search import search_page, search_summary

RECIPE = Recipe("net", ModelSpec("cifar:resnet20"), Preprocessing(32, 32), DataSpec("cifar10"))
BASE = RecipeBase(RECIPE, (), {"samples": 100}, (1, 3), 1.0)
UNCUT = SearchRow("net-uncut", "the recipe as it is, uncut", precision="int8", speedup=1.0, latency_ms=2.0, loss=0.1)
FAST = SearchRow("net-a-4e", "cut <deep>", 3, 4, "int8", 2.0, 2.1, 1.0, 0.9, 0.8, 30_000)
SLOW = SearchRow("net-b-1e", "cut", 4, 1, "int8", 1.01, 1.2, 1.98, 0.91, 0.0, 90_000)
LOSSY = SearchRow("net-c-4e", "cut", 5, 4, "int8", 3.0, 3.0, 0.66, 0.8, 12.0, 9_000)


def end_of(*rows: SearchRow) -> str:
    return describe_end(UNCUT, rows, best_row(rows, 1.0), BASE, [outcome(0, 0.5, 3.0)])


def test_the_fastest_within_the_floor_is_the_best() -> None:
    assert best_row((SLOW, LOSSY, FAST), 1.0) is FAST
    said = end_of(FAST, SLOW)
    assert said == "best: net-a-4e: 2.00 times as fast as the uncut net in int8, 0.80 points lost of 1"


def test_that_nothing_is_faster_is_said_plainly() -> None:
    assert end_of(SLOW).startswith("nothing better found: no recipe within 1 points is faster than the uncut net")
    assert describe_end(UNCUT, (), None, BASE, []).startswith("nothing better found: no recipe was worth a training")


@pytest.mark.parametrize(("rung", "binds"), [(0, "--hours: it was trained for 1 of 4"), (1, "search.epochs = [1, 3]")])
def test_a_floor_that_none_meets_names_the_nearest_and_what_binds(rung: int, binds: str) -> None:
    said = describe_end(UNCUT, (LOSSY,), None, BASE, [outcome(0, 0.33, 11.0, rung=rung)])
    assert "no recipe loses at most 1 points: the nearest, channels -10 %" in said
    assert "loses 12.00 at 3.00 times the speed" in said
    assert binds in said


def record_in(folder: Path) -> SearchRecord:
    trials = [outcome(0, 0.5, 3.0), outcome(1, 0.6, 2.0), outcome(2, 0.9, None)]
    return SearchRecord(
        name="net",
        target="openvino",
        floor=1.0,
        measure="top-1",
        baseline=UNCUT,
        front=(FAST, SearchRow("net-d", "cut", absent="it fails")),
        best=FAST,
        sentence="best",
        steps=(),
        points=tuple(search_points(trials, (1, 3))),
        left_out=("qat: left out: why",),
        cost=SearchCost(1.5, 0.5, 2, 0, 1, 0, 2, 0.97),
        study="net",
        storage="search.sqlite",
        folder=str(folder),
    )


def test_the_page_has_every_row_and_why_one_has_no_figures(tmp_path: Path) -> None:
    record = record_in(tmp_path)
    page = search_page(record)
    for words in ("net-uncut", "2.00", "net-d: cut; not built: it fails", "1.50 hours after 0.50 in earlier runs"):
        assert words in page
    summary = json.loads(as_json(search_summary(record, {"page": "x"})))
    assert (summary["best"]["recipe"], summary["page"]) == ("net-a-4e", "x")


def test_the_page_and_the_plot_are_files_beside_the_recipes(tmp_path: Path) -> None:
    written = write_search(record_in(tmp_path))
    html = (tmp_path / "search.html").read_text()
    assert "cut &lt;deep&gt;" in html
    assert "<deep>" not in html
    assert "qat: left out: why" in html
    assert written == {kind: str(tmp_path / f"search.{end}") for kind, end in
                       (("page", "html"), ("svg", "svg"), ("png", "png"))}  # fmt: skip
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")
    assert "built, on test images" in (tmp_path / "search.svg").read_text()
