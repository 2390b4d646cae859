"""Tables on stdout."""

import pytest

from toolchain.tables import table


def test_numbers_are_right_aligned_and_missing_values_are_a_dash() -> None:
    rows = [("torch", 1.234, None), ("openvino [int8]", 22.5, 1234567)]
    assert table(rows, {"engine": "", "p50, ms": ".2f", "size, bytes": ",d"}).splitlines() == [
        "engine           p50, ms  size, bytes",
        "─────────────────────────────────────",
        "torch               1.23            -",
        "openvino [int8]    22.50    1,234,567",
    ]


def test_long_text_is_wrapped_and_no_line_is_longer_than_100_characters() -> None:
    text = table([("name", "word " * 60, 1), ("f" * 64, "b" * 200, None)], ("a", "b", "c"))
    assert max(map(len, text.splitlines())) <= 100
    assert text.count("word") == 60


def test_long_names_are_broken_between_words_before_short_values_are() -> None:
    name = "onnxruntime fp32 against a_file_with_a_long_name_of_its_own.onnx fp32"
    rows = [(name, 1e-6, 1e-6, "100.00%", 33, "agrees")]
    columns = {"outputs": "", "max |diff|": ".2e", "relative": ".2e", "same top-1": "", "worst image": "", "": ""}
    text = table(rows, columns)
    assert "same top-1" in text
    assert "100.00%" in text
    assert "a_file_with_a_long_name_of_its_own.onnx" in text


def test_a_table_without_rows_has_headings() -> None:
    assert table([], ("a", "b")).splitlines()[0] == "a  b"


def test_a_row_of_the_wrong_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        table([(1, 2, 3)], ("a", "b"))


def test_what_a_stranger_wrote_moves_no_cursor() -> None:
    assert table([("\x1b[2Jname\x07",)], ("a",)).splitlines()[-1] == "\ufffd[2Jname\ufffd"
