"""Data sets: where to fetch them, how to verify them, and which image belongs to which split."""

from toolchain.data.dataset import DataSet, Split
from toolchain.data.loading import NAMES, fetch, load

__all__ = ["NAMES", "DataSet", "Split", "fetch", "load"]
