"""The properties of a step's result that the step report needs: precision, bits of storage and computation, layer
widths.

Knows nothing of engines or measurements.
"""

from typing import Any

import msgspec
from torch import nn

from toolchain.compress.metrics import parameter_count, sparsity
from toolchain.compress.options import TrainingOptions
from toolchain.compress.step import CompressedModel, Step
from toolchain.records.manifest import Precision

FP32_BITS, INT8_BITS = 32, 8
WEIGHT_ONLY: dict[Precision, int] = {"int8w": 8, "int4w": 4, "int2w": 2, "int1w": 1}
MIN_SPARSITY_GAIN = 0.01  # more zeros than training alone produces


class ModelProperties(msgspec.Struct, frozen=True):
    """trains: the step only trains, and is judged together with the step before it. same: the step left the module
    itself unchanged. precision: the precision in which the model is built for the comparison. stored_bits: of a weight
    on disk; computed_bits: of a product in the engine, counted as in papers. widths: output channels of each layer with
    weights."""

    trains: bool
    same: bool
    precision: Precision
    stored_bits: int
    computed_bits: int
    widths: dict[str, int]


def properties_of(step: Step | None, before: CompressedModel | None, after: CompressedModel) -> ModelProperties:
    """The properties of `after`, which `step` made from `before`; both are None for the model that the recipe starts
    from."""
    precision, stored, computed = _precision_and_bits(before, after)
    return ModelProperties(
        trains=before is not None
        and isinstance(step, TrainingOptions)
        and not _changes_architecture(step, before, after),
        same=before is not None and before.module is after.module,
        precision=precision,
        stored_bits=stored,
        computed_bits=computed,
        widths=layer_widths(after.module),
    )


def is_training(step: Step) -> bool:
    """Whether the step takes as long as a training does."""
    return isinstance(step, TrainingOptions)


def has_approximate_dry_run(name: str, step: Step | None) -> bool:
    """Whether the dry run's layer widths may differ from those of the trained or measured model."""
    ranked = any(getattr(step, option, None) for option in ("global_pruning", "latency_times_faster"))
    return ranked or name == "prune_blocks"


def _precision_and_bits(before: CompressedModel | None, after: CompressedModel) -> tuple[Precision, int, int]:
    """The precision that the step's model is built in, the bits of a stored weight, and the bits of the wider of weight
    and activation, in which products are computed."""
    if after.rounding and (before is None or after.rounding != before.rounding):
        bits = after.rounding[-1].bits
        return next(precision for precision, width in WEIGHT_ONLY.items() if width == bits), bits, FP32_BITS
    if after.quantization is not None:
        return "int8d" if after.quantization.dynamic else "int8", INT8_BITS, INT8_BITS
    if after.learned is not None:
        weights, activations = after.learned.weight_bits, after.learned.activation_bits
        precision = (
            "int8" if activations else next(precision for precision, width in WEIGHT_ONLY.items() if width == weights)
        )
        return precision, weights, max(weights, FP32_BITS if activations is None else activations)
    return "fp32", FP32_BITS, FP32_BITS


def layer_widths(module: nn.Module) -> dict[str, int]:
    """Output channels of every convolution and linear layer, by name."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    layers: list[tuple[str, Any]] = [
        (name, layer) for name, layer in module.named_modules() if isinstance(layer, kinds)
    ]
    return {name: getattr(layer, "out_channels", None) or layer.out_features for name, layer in layers}


def _changes_architecture(step: TrainingOptions, before: CompressedModel, after: CompressedModel) -> bool:
    """Whether the step did more than train: other bits, more lasting zeros, or another parameter count (a new head
    aside)."""
    if after.learned != before.learned or sparsity(after.module) > sparsity(before.module) + MIN_SPARSITY_GAIN:
        return True
    return not getattr(step, "replace_head", False) and parameter_count(after.module) != parameter_count(before.module)
