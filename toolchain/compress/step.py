"""What a compression step is: a frozen struct whose fields are its options and whose apply() performs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec
from torch import nn

from toolchain.data import DataSet
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Preprocessing


class Quantization(msgspec.Struct, frozen=True):
    """Post-training quantization options that the `quantize` step passes to the backend, which quantizes the exported
    graph (one graph per device: OpenVINO prefers asymmetric activations, TensorRT refuses them)."""

    samples: int = 300
    preset: str = "mixed"  # symmetric weights, asymmetric activations; or "performance": symmetric both
    bias_correction: str = "fast"  # or "exact" or "off"
    smooth: bool = False
    per_channel: bool = True  # one weight scale per output channel; False: one per layer
    dynamic: bool = False  # activation ranges are computed per image, without calibration
    ignore: tuple[str, ...] = ()  # name patterns of layers that stay in float; `*` matches anything
    max_drop: float | None = None  # points of top-1 on the validate split; layers stay in float until it holds


class WeightRounding(msgspec.Struct, frozen=True):
    """Weight-only quantization options that the `quantize_weights` step passes to the backend."""

    bits: int
    group: int | None = None  # how many weights of an output channel share a scale; None: all
    clip: bool = True
    keep_ends: bool = True  # the first and the last layer at 8 bits
    ignore: tuple[str, ...] = ()


class LearnedQuantization(msgspec.Struct, frozen=True):
    """The result of quantization-aware training: bits of the weights and of the activations (None: activations stay in
    float). symmetric: the activation range is symmetric around zero. full_range: weights of 8 bits use all of them, not
    -64..64. The exporter writes such layers with QuantizeLinear and DequantizeLinear."""

    weight_bits: int
    activation_bits: int | None
    symmetric: bool = False
    full_range: bool = False


@dataclass(frozen=True)
class CompressedModel:
    """The model between two steps of a recipe, with what earlier steps have recorded about it.

    module: takes normalized float32 [N, C, H, W], returns logits.
    """

    module: nn.Module
    quantization: Quantization | None = None
    history: tuple[dict[str, float], ...] = ()  # recorded by the last step, one entry per epoch or round
    learned: LearnedQuantization | None = None
    sparse: tuple[str, ...] = ()  # parameters whose zeros later training keeps
    rounding: tuple[WeightRounding, ...] = ()  # one per bit width: each is a candidate of its own


@dataclass(frozen=True)
class StepContext:
    """What a step may use.

    folder: the step's own; it survives an interruption, and the step resumes from it. original: builds the model as the
    recipe started from it, the teacher when no other is named. base: the folder that a teacher's relative paths start
    from. latencies_ms: median latencies of several models at batch 1 in fp32 on the target's engine, measured
    interleaved in one run; None where no engine is available. output: what the model's outputs say.
    """

    data: DataSet
    preprocessing: Preprocessing
    folder: Path
    seed: int = 0
    original: Callable[[], nn.Module] | None = None
    base: Path = Path()
    latencies_ms: Callable[[Sequence[nn.Module]], tuple[float, ...]] | None = None
    output: OutputKind = SOFTMAX


class Step(Protocol):
    """A compression step; its fields are its options. It never changes the model it is given, but returns a new one.

    Before any training starts, compress.check_steps calls check(), which refuses options that cannot work on this data,
    and dry_run(), which returns a model of the shape that apply() would return, untrained, and refuses what cannot work
    on this model (a layer that does not exist or would be emptied). Both raise RecipeError without the place, which the
    caller adds.
    """

    def check(self, context: StepContext) -> None: ...
    def dry_run(self, model: CompressedModel, context: StepContext) -> CompressedModel: ...
    def apply(self, model: CompressedModel, context: StepContext) -> CompressedModel: ...
