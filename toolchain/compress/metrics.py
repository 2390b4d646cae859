"""What a net is after a step: parameters, multiply-accumulates, bytes, accuracy; and a step applied and measured.

Knows nothing of engines: latency is measured where the artifact runs.
"""

import time

import msgspec
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from toolchain.compress.batches import Batches
from toolchain.compress.step import CompressedModel, Step, StepContext
from toolchain.data import DataSet, Split
from toolchain.models.check import class_count
from toolchain.models.eval_mode import device_of, evaluation_mode
from toolchain.progress import counted
from toolchain.records.manifest import StepRecord
from toolchain.records.tensors import Preprocessing


def example_input(module: nn.Module, preprocessing: Preprocessing) -> Tensor:
    """float32 [1, C, H, W] of zeros where the module is: an input to trace or count with."""
    height, width, channels = preprocessing.shape
    return torch.zeros(1, channels, height, width, device=device_of(module))


def parameter_count(module: nn.Module) -> int:
    """Trainable numbers, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def macs(module: nn.Module, preprocessing: Preprocessing) -> int:
    """Multiply-accumulates for one picture: half of what torch.utils.flop_counter counts (convolutions, matrix
    products, attention; not the additions, activations and normalizations between them)."""
    with evaluation_mode(module), torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(example_input(module, preprocessing))
    return int(counter.get_total_flops()) // 2


def weights_size_bytes(module: nn.Module) -> int:
    """Parameters and floating-point buffers (a BatchNorm's mean and variance) as fp32."""
    buffers = sum(buffer.numel() for buffer in module.buffers() if buffer.is_floating_point())
    return 4 * (parameter_count(module) + buffers)


def sparsity(module: nn.Module) -> float:
    """The share of zeros among the weights of convolutions and linear layers: parameters of two axes and more."""
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    total = sum(weight.numel() for weight in weights)
    return sum(int((weight == 0).sum()) for weight in weights) / total if total else 0.0


def accuracy(module: nn.Module, part: Split, preprocessing: Preprocessing, title: str) -> float:
    """Top-1 over every picture of `part`, a share 0..1, in fp32 where the module is; `what` names the progress."""
    batches = Batches(part, preprocessing, device_of(module))
    right, total = 0, -(-len(part) // batches.evaluation_size)
    with evaluation_mode(module), torch.inference_mode():
        for images, labels in counted(batches.ordered_batches(), title, total):
            right += int((module(images).argmax(1) == labels).sum())
    return right / len(part)


def step_record(
    name: str,
    options: dict[str, object],
    net: CompressedModel,
    data: DataSet,
    preprocessing: Preprocessing,
    seconds: float,
) -> StepRecord:
    """What `net` is now. accuracy_validate is None without validation pictures, and where the net tells other classes
    apart than the data's (before its head is replaced)."""
    module, part, found = net.module, data.splits.get("validate"), None
    if part is not None and len(part) and class_count(module, preprocessing) == len(data.classes):
        found = accuracy(module, part, preprocessing, f"{name}: validate")
    return StepRecord(
        step=name,
        options=options,
        parameters=parameter_count(module),
        macs=macs(module, preprocessing),
        size_bytes=weights_size_bytes(module),
        accuracy_validate=found,
        seconds=seconds,
        history=net.history,
        sparsity=sparsity(module),
    )


def apply_step(name: str, step: Step, net: CompressedModel, context: StepContext) -> tuple[CompressedModel, StepRecord]:
    """Apply one step and measure the net after it. seconds: the step alone, since it was last resumed."""
    began = time.monotonic()
    after = step.apply(net, context)
    seconds = time.monotonic() - began
    return after, step_record(name, msgspec.to_builtins(step), after, context.data, context.preprocessing, seconds)
