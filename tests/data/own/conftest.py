"""What is remembered of checked images lies in a home of each test."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_home(home: Path) -> Path:
    return home
