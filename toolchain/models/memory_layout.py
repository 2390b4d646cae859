"""The order in which a network's images lie in memory: channels last is faster, and not every network takes it."""

import torch
from torch import Tensor, nn

from toolchain.models.eval_mode import device_of, evaluation_mode
from toolchain.records.tensors import Preprocessing

IMAGES = 2  # torch calls a single image contiguous in either order


def find_memory_format(module: nn.Module, preprocessing: Preprocessing) -> torch.memory_format:
    """channels_last, or contiguous_format for a network that fails on it: one that flattens by `x.view(len(x), -1)`
    what its convolutions return."""
    height, width, channels = preprocessing.shape
    images = torch.zeros((IMAGES, channels, height, width), device=device_of(module))
    try:
        with evaluation_mode(module), torch.no_grad():
            module(images.contiguous(memory_format=torch.channels_last))
    except Exception:  # a user's own forward can raise anything; what fails in any order fails where it is used
        return torch.contiguous_format
    return torch.channels_last


def lay_out_weights(module: nn.Module, preprocessing: Preprocessing) -> torch.memory_format:
    """Put the weights into the fastest order that the network can be trained in; what its images are to have."""
    layout = find_memory_format(module.to(memory_format=torch.channels_last), preprocessing)
    if layout is torch.contiguous_format:
        module.to(memory_format=layout)
    return layout


def make_contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A forward pre-hook for a network that takes no other order than that of its channels."""
    return tuple(value.contiguous() for value in inputs)
