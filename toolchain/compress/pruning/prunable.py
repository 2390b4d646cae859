"""Whether weights can still be removed or zeroed: one rule for all steps that do so."""

import torch

from toolchain.compress.step import CompressedModel
from toolchain.errors import RecipeError
from toolchain.models.exported_program import ProgramModule


def check_prunable(model: CompressedModel) -> None:
    """RecipeError for a model from which no channels or blocks can be removed any more."""
    _check(model, "pruning", "pruned")


def check_sparsifiable(model: CompressedModel) -> None:
    """RecipeError for a model whose weights can no longer be zeroed."""
    _check(model, "zeroing weights", "made sparse")


def _check(model: CompressedModel, action: str, outcome: str) -> None:
    if model.quantization is not None or model.learned is not None:
        raise RecipeError(f"{action} after quantization would undo it; move it before quantize and qat")
    if isinstance(model.module, torch.fx.GraphModule | ProgramModule):
        raise RecipeError(f"an exported program cannot be {outcome}; give the model as path/file.py:function")
