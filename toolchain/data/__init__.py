"""Data sets: where to fetch them, how to check them, which picture belongs to which part."""

from toolchain.data.dataset import DataSet, Split
from toolchain.data.loading import NAMES, fetch, load

__all__ = ["NAMES", "DataSet", "Split", "fetch", "load"]
