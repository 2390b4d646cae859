"""Do two ways of running a model agree? numpy only: outputs come in as arrays, wherever they were computed."""

from toolchain.parity.compare import TOLERANCES, Original, compare, compare_three_ways, require_parity

__all__ = ["TOLERANCES", "Original", "compare", "compare_three_ways", "require_parity"]
