"""What the honest table must know of a step's net besides its record: how it is stored and computed, and its widths.

Knows nothing of engines or of what was measured.
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
MIN_SPARSITY_GAIN = 0.01  # a share of zeros that training alone does not bring about


class ModelProperties(msgspec.Struct, frozen=True):
    """trains: the step is nothing but training, and is judged with the step before it. same: the module is the one that
    the step was given. precision: what the net is built in to be judged. stored_bits, computed_bits: of a weight on
    disk, and of a product in the engine, as papers count. widths: output channels of each layer that multiplies."""

    trains: bool
    same: bool
    precision: Precision
    stored_bits: int
    computed_bits: int
    widths: dict[str, int]


def properties_of(step: Step | None, before: CompressedModel | None, after: CompressedModel) -> ModelProperties:
    """The facts of `after`, which `step` made of `before`; both None: the net as the recipe starts from it."""
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
    """Whether the step takes the time that training takes."""
    return isinstance(step, TrainingOptions)


def has_approximate_dry_run(name: str, step: Step | None) -> bool:
    """Whether only the trained or measured net tells what the step takes away: its rehearsal has other widths."""
    ranked = any(getattr(step, option, None) for option in ("global_pruning", "latency_times_faster"))
    return ranked or name == "prune_blocks"


def _precision_and_bits(before: CompressedModel | None, after: CompressedModel) -> tuple[Precision, int, int]:
    """The precision that the step's net is built in, bits of a weight as stored, and of the wider of weight and
    activation, in which products are computed."""
    if after.rounding and (before is None or after.rounding != before.rounding):
        bits = after.rounding[-1].bits
        return next(one for one, width in WEIGHT_ONLY.items() if width == bits), bits, FP32_BITS
    if after.quantization is not None:
        return "int8d" if after.quantization.dynamic else "int8", INT8_BITS, INT8_BITS
    if after.learned is not None:
        weights, activations = after.learned.weight_bits, after.learned.activation_bits
        precision = "int8" if activations else next(one for one, width in WEIGHT_ONLY.items() if width == weights)
        return precision, weights, max(weights, FP32_BITS if activations is None else activations)
    return "fp32", FP32_BITS, FP32_BITS


def layer_widths(module: nn.Module) -> dict[str, int]:
    """Output channels of every convolution and linear layer, by its name."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    layers: list[tuple[str, Any]] = [(name, one) for name, one in module.named_modules() if isinstance(one, kinds)]
    return {name: getattr(one, "out_channels", None) or one.out_features for name, one in layers}


def _changes_architecture(step: TrainingOptions, before: CompressedModel, after: CompressedModel) -> bool:
    """More than training: other bits, more zeros that later training keeps, fewer parameters (another head aside)."""
    if after.learned != before.learned or sparsity(after.module) > sparsity(before.module) + MIN_SPARSITY_GAIN:
        return True
    return not getattr(step, "replace_head", False) and parameter_count(after.module) != parameter_count(before.module)
