import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from deploy.gate.selftest import Rate
from deploy.ledger.ledger import Ledger
from tests.bundles import null_bundle
from tests.deploy.ledger.ledgers import gate_of, report
from tests.report.seen import CLASSES, draw_data, keep_drawn
from toolchain.errors import UsageError
from toolchain.records.gate import BASELINE, CANDIDATE, Finding, Round
from toolchain.records.manifest import Candidate, StepRecord
from toolchain.records.output import OutputKind
from toolchain.report.content import ReportContent, read_report_content
from toolchain.report.html import page
from toolchain.report.plots import png, power, svg, write_plot
from toolchain.report.writer import draw_plots, summary, write_report

EPOCHS = tuple({"epoch": 1.0 + at, "loss": 2.0 / (1 + at), "accuracy_validate": 0.5 + at / 10} for at in range(4))
STEPS = (
    StepRecord("model", {}, 10, 100, 40, 0.5, 0.0, predicted_speedup=1.0, measured_speedup=1.0, verdict="original"),
    StepRecord("finetune", {}, 10, 100, 40, 0.9, 3.0, EPOCHS, measured_speedup=1.0, verdict="judged with: <that>"),
)
CANDIDATES = (
    Candidate("fp32", "null", ("model.null.json",), 1_000_000, 0.9113, 0.8, "slower"),
    Candidate("int8", "null", ("model.null.json",), 400_000, 0.9093, 0.4, "chosen"),
)
VOID = {"meta", "br", "img", "link", "input", "hr"}


def lines(slower: float) -> tuple[Round, ...]:
    draw = np.random.default_rng(0)
    return tuple(
        Round(
            {
                CANDIDATE: (tuple(draw.normal(1 + slower, 0.02, 40).tolist()),),
                BASELINE: (tuple(draw.normal(1, 0.02, 40).tolist()),),
            }
        )
        for _ in range(10)
    )


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two releases; the newer was gated and regressed."""
    tmp_path = tmp_path_factory.mktemp("ledger")
    place = tmp_path / "ledger.sqlite"
    finding = Finding("p50", BASELINE, "regressed", 0.05, 0.04, 0.06, 0.03, 0.001, "seen in both | <of> two runs")
    with Ledger(place) as book:
        for number in ("1", "2"):
            bundle = null_bundle(tmp_path / number, release=number, steps=STEPS, candidates=CANDIDATES)
            book.record_release(bundle, 5)
            book.record_report(report(bundle.digest, release=number, measured_at=f"2026-01-0{number}"))
        changes = {"rounds": lines(0.05), "confirming": lines(0.05), "findings": (finding,), "verdict": "regressed"}
        book.record_gate(gate_of(bundle.digest, "b" * 64, reason="p50 <5 %> worse", **changes))
    return place


@pytest.fixture(scope="module")
def newest(ledger: Path) -> ReportContent:
    """This machine built it, so what its build saw is here."""
    with Ledger(ledger) as book, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOOLCHAIN_HOME", str(ledger.parent / "home"))
        keep_drawn(ledger.parent / "home", str(book.find_bundle("null")))
        return read_report_content("null", None, book)


@pytest.fixture(scope="module")
def figures(newest: ReportContent) -> dict[str, Figure]:
    return draw_plots(newest)


class Page(HTMLParser):
    """Every tag must close in order; attributes that fetch are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.fetched += [f"{name}={value}" for name, value in attrs if name in ("src", "srcset", "data")]
        self.fetched += [
            value for name, value in attrs if name.endswith("href") and value and not value.startswith("#")
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_complete_and_fetches_nothing(newest: ReportContent, figures: dict[str, Figure]) -> None:
    read = Page()
    text = page(newest, figures)
    read.feed(text)
    assert read.open == []
    assert [source for source in read.fetched if not source.startswith("src=data:image/")] == []
    assert "url(" not in re.sub(r"url\(#\w+\)", "", text) and "@import" not in text and read.seen.count("script") == 1
    # distributions, rounds, candidates, confusion, calibration, training, releases
    assert read.seen.count("figure") == 7
    for words in ("p50 <5 %> worse", "seen in both | <of> two runs", "step 1, finetune: judged with: <that>", "int8"):
        assert words in read.text
    assert newest.bundle in read.text


def test_the_page_says_what_is_got_right_and_what_is_not(newest: ReportContent) -> None:
    read = Page()
    read.feed(page(newest, {}))
    assert newest.seen
    mistakes = newest.seen.record.precisions["int8"].mistakes
    assert read.seen.count("img") == len(mistakes) + len(newest.seen.record.sheet)
    first = mistakes[0]
    assert f"says {CLASSES[first.predicted]} at {first.confidence:.0%}; is {CLASSES[first.true[0]]}" in read.text
    for words in (*CLASSES, "found by fp32", "found by int8", "Expected calibration error", "Changed since 1"):
        assert words in read.text


def test_where_nobody_built_it_the_page_says_what_is_not_known(newest: ReportContent) -> None:
    elsewhere = page(replace(newest, seen=None), {})
    assert "stay on the machine that builds" in elsewhere
    assert "<img" not in elsewhere


def test_several_labels_an_image_and_bare_scores_have_a_page_too(newest: ReportContent, tmp_path: Path) -> None:
    several = keep_drawn(tmp_path, "2" * 64, draw_data(multilabel=True), OutputKind("sigmoid"))
    bare = keep_drawn(tmp_path, "3" * 64, output=OutputKind("logits"))
    for seen, plots in ((several, {"calibration"}), (bare, {"confusion"})):
        content = replace(newest, seen=seen)
        assert {"confusion", "calibration"} & set(draw_plots(content)) == plots
        assert "By class" in page(content, {})
    assert "no probabilities" in page(replace(newest, seen=bare), {})


def test_a_release_without_gate_or_report_still_has_a_page(ledger: Path) -> None:
    with Ledger(ledger) as book:
        first = read_report_content("null", "1", book)
    bare = msgspec.structs.replace(first.manifest, candidates=(), steps=(), parity=())
    assert "No gate yet; run one: toolchain gate" in page(first, draw_plots(first))
    assert "No gate: the ledger has none for this release." in summary(first)
    assert set(draw_plots(ReportContent(first.bundle, bare, None, ()))) == set()


def test_the_summarys_markdown_table_survives_any_text(newest: ReportContent) -> None:
    told_so = summary(newest)
    assert told_so.startswith("### null 2 for null\n\n❌ **regressed**: p50 <5 %> worse")
    rows = [line for line in told_so.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    assert len({line.count("|") for line in rows}) == 1


@pytest.mark.slow
def test_every_plot_is_a_readable_image_file(newest: ReportContent, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    paths = write_report(newest, folder)
    assert {path.name for path in folder.iterdir()} == {"report.html", "summary.md"} | {
        f"{name}.{kind}"
        for name in ("distributions", "rounds", "pareto", "confusion", "calibration", "training-1", "trend")
        for kind in ("svg", "png")
    }
    for name in ("rounds", "pareto", "trend"):
        with Image.open(paths[name]) as image:
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 10
    assert write_report(newest, folder) == paths  # over an earlier report


def test_only_a_report_is_overwritten(newest: ReportContent, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not a report's folder; name a new folder"):
        write_report(newest, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_an_unknown_release_is_refused_with_the_known_ones(ledger: Path) -> None:
    with Ledger(ledger) as book:
        with pytest.raises(UsageError, match="no release of 'other' in the ledger; it has: null"):
            read_report_content("other", None, book)
        with pytest.raises(UsageError, match="no release '9' of null in the ledger; it has: 2, 1"):
            read_report_content("null", "9", book)


def test_every_text_of_a_plot_takes_the_pages_colour(figures: dict[str, Figure]) -> None:
    """Matplotlib's own black is written by leaving the colour out, which is black on a dark page."""
    for name, figure in figures.items():
        texts = re.findall(r"<text[^>]*>", svg(figure))
        assert texts, name
        assert [text for text in texts if "fill: currentColor" not in text] == [], name


def test_plots_are_reproducible_and_take_the_pages_colour() -> None:
    rates = [Rate(slower, 20, 0.9, 0.0, share, 0.0, 1.0, 10, 14) for slower, share in ((0.0, 0.0), (0.05, 1.0))]
    first, second = (svg(power(rates)) for _ in range(2))
    assert first == second
    assert "currentColor" in first and "#010203" not in first
    with Image.open(io.BytesIO(png(power(rates)))) as image:
        assert image.format == "PNG"


def test_a_plot_is_written_in_the_format_of_its_suffix(tmp_path: Path) -> None:
    rates = [Rate(0.0, 20, 1.0, 0.0, 0.0, 0.0, 0.16, 10, 14)]
    for name, begins in (("a.png", b"\x89PNG"), ("a.svg", b"<svg")):
        place = tmp_path / "new" / name
        assert write_plot(power(rates), place) == str(place)
        assert place.read_bytes().startswith(begins)
    with pytest.raises(UsageError, match=r"a.gif: expected a name that ends in .png or .svg"):
        write_plot(power(rates), tmp_path / "a.gif")
