"""How long an epoch will take here, from a few batches of noise. Trains nothing: the model is copied."""

import time
from copy import deepcopy
from statistics import median

import torch
from torch import nn

from toolchain.compress.training.loop import training_device
from toolchain.compress.training.losses import logits_of
from toolchain.models.memory_layout import lay_out_weights
from toolchain.records.tensors import Preprocessing

BATCHES = 3  # after one that warms up


def measure_epoch_s(module: nn.Module, preprocessing: Preprocessing, images: int, batch_size: int) -> float:
    """Seconds for a forward and a backward pass over `images` images, without what reads and augments them."""
    device = training_device()
    copied = deepcopy(module).to(device)
    layout = lay_out_weights(copied, preprocessing)
    copied.train()
    size = max(2, min(batch_size, images))  # BatchNorm needs two
    height, width, channels = preprocessing.shape
    noise = torch.randn(size, channels, height, width, device=device).contiguous(memory_format=layout)
    taken: list[float] = []
    for _ in range(BATCHES + 1):
        began = time.perf_counter()
        torch.autograd.backward(logits_of(copied(noise)).float().logsumexp(dim=-1).mean())
        copied.zero_grad(set_to_none=True)
        taken.append(time.perf_counter() - began)
    return median(taken[1:]) * images / size
