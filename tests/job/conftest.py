"""Measurements of a build take slices of 30 ms here, an eighth of what they do for a user."""

import pytest


@pytest.fixture(autouse=True)
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("toolchain.job.latency.SLICE_S", 0.03)
