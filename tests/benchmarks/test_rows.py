"""A bench whose part fails prints a row that fell short and goes on."""

from collections.abc import Iterator

import pytest

from benchmarks.rows import Row, guarded_rows, row


def test_an_error_keeps_the_rows_before_it_and_becomes_one_that_fell_short() -> None:
    def measured() -> Iterator[Row]:
        yield row("first", 1.0, "<=", 2, "s")
        raise RuntimeError("toolchain: no candidate\n meets the accuracy threshold")

    first, second = guarded_rows("int8", measured)
    assert (first.what, first.holds) == ("first", True)
    assert (second.what, second.value, second.holds) == ("int8", None, False)
    assert second.note == "RuntimeError: toolchain: no candidate meets the accuracy threshold"


@pytest.mark.slow
def test_a_failed_command_names_its_last_line() -> None:
    import sys

    from benchmarks.compress import run_json

    [failed] = guarded_rows("build", lambda: [run_json(sys.executable, "-c", "raise SystemExit('toolchain: refused')")])
    assert isinstance(failed, Row)
    assert failed.note == "RuntimeError: toolchain: refused"
