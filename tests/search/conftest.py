"""As in tests/job: short measurements."""

from tests.job.conftest import short_slices

__all__ = ["short_slices"]
