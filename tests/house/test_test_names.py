"""What the tests' own settings promise: names that are the same in every worker."""

import gzip

from tests.conftest import pytest_make_parametrize_id


def test_packed_bytes_are_named_by_their_argument_since_they_hold_the_time() -> None:
    early, late = (gzip.compress(b"x", mtime=second) for second in (1, 2))
    assert early != late
    assert pytest_make_parametrize_id(early, "packed") == pytest_make_parametrize_id(late, "packed") == "packed"
    assert pytest_make_parametrize_id(b"{}", "packed") is None
    assert pytest_make_parametrize_id("x" * 99, "text") is None
