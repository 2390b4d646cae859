"""Measures a model after a step: parameters, multiply-accumulates, bytes and accuracy.

Knows nothing of engines: latency is measured where the artifact runs.
"""

import time

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from toolchain.compress.batches import Batches
from toolchain.compress.step import CompressedModel, Step, StepContext
from toolchain.data import DataSet, Split
from toolchain.models.check import class_count
from toolchain.models.eval_mode import device_of, evaluation_mode
from toolchain.models.memory_layout import find_memory_format
from toolchain.progress import track
from toolchain.records.manifest import StepRecord
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Preprocessing


def example_input(module: nn.Module, preprocessing: Preprocessing) -> Tensor:
    """A zero image, float32 [1, C, H, W] on the module's device, to trace or count with."""
    height, width, channels = preprocessing.shape
    return torch.zeros(1, channels, height, width, device=device_of(module))


def parameter_count(module: nn.Module) -> int:
    """The number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, preprocessing: Preprocessing) -> int:
    """Multiply-accumulates per image: half of what torch.utils.flop_counter counts (convolutions, matrix products and
    attention; not element-wise operations between them)."""
    with evaluation_mode(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example_input(module, preprocessing))
    return int(counter.get_total_flops()) // 2


def weights_size_bytes(module: nn.Module) -> int:
    """Size in fp32 of all parameters and floating-point buffers (such as a BatchNorm's mean and variance)."""
    buffers = sum(buffer.numel() for buffer in module.buffers() if buffer.is_floating_point())
    return 4 * (parameter_count(module) + buffers)


def sparsity(module: nn.Module) -> float:
    """The fraction of zeros among the weights of convolutions and linear layers (parameters with two or more axes)."""
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def accuracy(
    module: nn.Module, split: Split, preprocessing: Preprocessing, title: str, output: OutputKind = SOFTMAX
) -> float:
    """Top-1 accuracy over every image of `split`, or the mean F1 of its labels (OutputKind.grade), 0..1, in fp32 on the
    module's device; `title` labels the progress bar."""
    return float(output.grade(split_scores(module, split, preprocessing, title), split.labels).mean())


def split_scores(module: nn.Module, split: Split, preprocessing: Preprocessing, title: str) -> NDArray[np.float32]:
    """The outputs [N, outputs] for every image of `split`, in order; see `accuracy`."""
    batches = Batches(split, preprocessing, device_of(module), layout=find_memory_format(module, preprocessing))
    total = -(-len(split) // batches.evaluation_size)
    with evaluation_mode(module), torch.inference_mode():
        parts = [module(images).float().cpu().numpy() for images, _ in track(batches.ordered_batches(), title, total)]
    return np.concatenate(parts)


def step_record(
    name: str,
    options: dict[str, object],
    model: CompressedModel,
    data: DataSet,
    preprocessing: Preprocessing,
    seconds: float,
    output: OutputKind = SOFTMAX,
) -> StepRecord:
    """Measure `model`. accuracy_validate is None without validation images, or when the model's class count differs
    from the data's (before its head is replaced)."""
    module, split, measured = model.module, data.splits.get("validate"), None
    if split is not None and len(split) and output.fits(class_count(module, preprocessing), len(data.classes)):
        measured = accuracy(module, split, preprocessing, f"{name}: validate", output)
    return StepRecord(
        step=name,
        options=options,
        parameters=parameter_count(module),
        macs=macs(module, preprocessing),
        size_bytes=weights_size_bytes(module),
        accuracy_validate=measured,
        seconds=seconds,
        history=model.history,
        sparsity=sparsity(module),
    )


def apply_step(
    name: str, step: Step, model: CompressedModel, context: StepContext
) -> tuple[CompressedModel, StepRecord]:
    """Apply one step and measure its result. seconds: the step alone, since it was last resumed."""
    began = time.monotonic()
    after = step.apply(model, context)
    seconds = time.monotonic() - began
    options, shape = msgspec.to_builtins(step), context.preprocessing
    return after, step_record(name, options, after, context.data, shape, seconds, context.output)
