"""What a topic writes into the guides stands between its comments, and says of how many images it is."""

from pathlib import Path

import pytest

from benchmarks.intake import guide
from benchmarks.intake.guide import markdown_table, write_table
from benchmarks.intake.pixels import PixelDifference
from benchmarks.intake.pixels import markdown as pixels_table
from benchmarks.intake.transforms import FoundTransform, rows_of
from benchmarks.intake.transforms import markdown as transforms_table


def test_a_table_takes_the_place_of_its_earlier_one_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide, "GUIDES", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- written by benchmarks/intake/x.py -->\nold\n<!-- end -->\nb\n<!-- end -->\n")
    write_table("page.md", "x", markdown_table(("h", "i"), [("1", "2")]))
    text = "<!-- written by benchmarks/intake/x.py -->\n| h | i |\n|---|---|\n| 1 | 2 |\n<!-- end -->\n"
    assert page.read_text() == f"a\n{text}b\n<!-- end -->\n"
    with pytest.raises(ValueError, match=r"page\.md: expected <!-- written by benchmarks/intake/y\.py -->"):
        write_table("page.md", "y", "")


def test_a_difference_is_equal_or_has_its_figures() -> None:
    equal = PixelDifference("pillow", "Pillow", "area", 0, 7, 0, 0.0, 0.0)
    rare = PixelDifference("opencv", "`cv2.resize`", "lanczos", 1, 7, 1, 1e-7, 1e-7)
    text = pixels_table([equal, rare])
    assert '| `"pillow"` | Pillow | area | equal to the byte | 0 | none |' in text
    assert "| lanczos | 1 level | below 0.001 | fewer than 0.01% |" in text
    assert text.endswith("\nOf 7 drawn photographs of 60 to 900 pixels a side.\n")


def test_a_transform_has_the_lines_that_are_its_own_and_a_bound() -> None:
    lines = ("height = 8", "width = 8", "resize = 11", 'filter = "bicubic"')
    found = FoundTransform("t.py:timm_bicubic", lines, 7, 4.0, 0.1)
    assert '| `timm_bicubic` | `resize = 11`, `filter = "bicubic"` | 4 | 0.1 |' in transforms_table([found])
    (row,) = rows_of([found])
    assert row.holds and "7 images" in row.note
    (other,) = rows_of([FoundTransform("t.py:timm_bilinear", lines[:3], 7, 4.0, 0.1)])
    assert not other.holds
