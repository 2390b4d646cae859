"""What a compression step is: a frozen struct whose fields are its options and whose apply() does it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from torch import nn

from toolchain.data import DataSet
from toolchain.records.tensors import Preprocessing


class Quantization(msgspec.Struct, frozen=True):
    """How a backend is to quantize after export: handed on by the `quantize` step, done by the backend (one graph a
    device: OpenVINO likes asymmetric activations, TensorRT refuses them)."""

    samples: int = 300
    preset: str = "mixed"  # symmetric weights, asymmetric activations; or "performance": symmetric both
    bias_correction: str = "fast"  # or "exact" or "off"
    smooth: bool = False
    per_channel: bool = True  # scales of weights; False: one a layer
    dynamic: bool = False  # activations' ranges found anew for each picture, no calibration
    ignore: tuple[str, ...] = ()  # layers left in float, by name; `*` stands for anything
    max_drop: float | None = None  # points of top-1 on the validate part; layers stay float until it holds


class WeightRounding(msgspec.Struct, frozen=True):
    """How a backend is to round weights, and nothing else, after export: handed on by the `quantize_weights` step."""

    bits: int
    group: int | None = None  # weights of an output channel that share a scale; None: all of them
    clip: bool = True
    keep_ends: bool = True  # the first and the last layer at 8 bits
    ignore: tuple[str, ...] = ()


class LearnedQuantization(msgspec.Struct, frozen=True):
    """What quantization-aware training put into a net's layers: bits of the weights, and of the activations (None: they
    stay float); symmetric: activations have as many steps below zero as above it. The exporter writes such layers with
    QuantizeLinear and DequantizeLinear."""

    weight_bits: int
    activation_bits: int | None
    symmetric: bool = False


@dataclass(frozen=True)
class CompressedModel:
    """The model on its way through the recipe: float32 [N, C, H, W], normalized, in; logits out."""

    module: nn.Module
    quantization: Quantization | None = None
    history: tuple[dict[str, float], ...] = ()  # what the last step recorded, an epoch or round an entry
    learned: LearnedQuantization | None = None
    sparse: tuple[str, ...] = ()  # parameters whose zeros stay zeros in later training
    rounding: tuple[WeightRounding, ...] = ()  # one a width: each is a candidate of its own


@dataclass(frozen=True)
class StepContext:
    """What a step may use. `folder` is its own and survives an interruption: a step resumes from it. original: the net
    as the recipe started from it, which teaches where no other teacher is named. base: what a teacher's relative paths
    are relative to. latencies_ms: medians at batch 1 on the target's engine, in fp32, of several nets measured in turn
    in one run; None where no engine is known."""

    data: DataSet
    preprocessing: Preprocessing
    folder: Path
    seed: int = 0
    original: Callable[[], nn.Module] | None = None
    base: Path = Path()
    latencies_ms: Callable[[Sequence[nn.Module]], tuple[float, ...]] | None = None


class Step(Protocol):
    """A step's options are its fields; it changes nothing in the Net that it is given, it returns another.

    Before any training starts (compress.check_steps), both RecipeError without the place, which the caller knows:
    check() refuses options that cannot work on this data; rehearse() returns a Net of the shape that apply() would
    return, untrained, and refuses what cannot work on this model (a layer that does not exist or would be emptied).
    """

    def check(self, context: StepContext) -> None: ...
    def dry_run(self, net: CompressedModel, context: StepContext) -> CompressedModel: ...
    def apply(self, net: CompressedModel, context: StepContext) -> CompressedModel: ...
