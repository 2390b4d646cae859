"""Do two ways of running a model agree? numpy only: answers come in as arrays, from wherever they were computed."""

from toolchain.parity.compare import TOLERANCES, compare, require, three_way

__all__ = ["TOLERANCES", "compare", "require", "three_way"]
