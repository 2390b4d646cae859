"""Channel importance: norms, distance from other channels, BatchNorm scale, or weight times gradient.

Takes a group of coupled channels, returns one score per channel (Torch-Pruning's).
"""

from typing import Literal

import torch
import torch_pruning as tp
from torch import nn
from torch.nn import functional

from toolchain.compress.batches import Batches
from toolchain.compress.pruning.groups import Scorer
from toolchain.compress.step import StepContext
from toolchain.models.memory_layout import find_memory_format

Importance = Literal["l1", "l2", "fpgm", "bn_scale", "taylor"]
TAYLOR_BATCH = 64


def scorer(importance: Importance) -> Scorer:
    scorers: dict[str, Scorer] = {
        "l1": tp.importance.GroupMagnitudeImportance(p=1),
        "l2": tp.importance.GroupMagnitudeImportance(p=2),
        "fpgm": tp.importance.FPGMImportance(),
        "bn_scale": tp.importance.BNScaleImportance(),
        "taylor": tp.importance.GroupTaylorImportance(),
    }
    return scorers[importance]


def accumulate_gradients(module: nn.Module, context: StepContext, samples: int) -> None:
    """Sum the loss's gradients over the first `samples` training images, shuffled by the build's seed."""
    layout = find_memory_format(module, context.preprocessing)
    batches = Batches(context.data.split("train"), context.preprocessing, torch.device("cpu"), layout=layout)
    random, size = torch.Generator().manual_seed(context.seed), min(TAYLOR_BATCH, samples)
    module.zero_grad(set_to_none=True)
    for number, (images, labels) in enumerate(batches.random_batches(size, (), random)):
        if number * size >= samples:
            break
        functional.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
