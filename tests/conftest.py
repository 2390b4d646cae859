"""Fixtures of all tests."""

from collections.abc import Iterator

import pytest

from tests.messages import calling


@pytest.fixture
def messages() -> Iterator[list[str]]:
    """Every message that the packages log while the test runs."""
    logged: list[str] = []
    with calling(logged.append):
        yield logged
