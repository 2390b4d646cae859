"""Data sets: where to fetch them, how to check them, which picture belongs to which part."""

from toolchain.data.loading import NAMES, fetch, load
from toolchain.data.sets import DataSet, Part

__all__ = ["NAMES", "DataSet", "Part", "fetch", "load"]
