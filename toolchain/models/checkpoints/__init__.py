"""Weights from a local file into a module: whatever a trainer wrote beside them, nothing in the file is run."""

from toolchain.models.checkpoints.fill import dequantize, fill_module, head_class_count
from toolchain.models.checkpoints.read import read_checkpoint
from toolchain.models.checkpoints.select import select_weights

__all__ = ["dequantize", "fill_module", "head_class_count", "read_checkpoint", "select_weights"]
