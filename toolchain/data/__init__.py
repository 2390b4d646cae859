"""Data sets: where to fetch them, how to check them, which picture belongs to which part."""

from toolchain.data.sets import DataSet, Part, load

__all__ = ["DataSet", "Part", "load"]
