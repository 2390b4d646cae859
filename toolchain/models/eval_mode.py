"""A network for a while in evaluation mode, and where its weights are. Knows nothing of what is asked of it."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[nn.Module]:
    """`module` in evaluation mode, and each part of it back in its own mode after. An exported program has only one
    mode, evaluation, and refuses to be asked."""
    modes = {part: part.training for part in module.modules()}
    try:
        module.eval()
    except NotImplementedError:
        modes = {}
    try:
        yield module
    finally:
        for part, training in modes.items():
            part.training = training


@contextmanager
def temporary_hooks(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """With the hooks that are registered; they are removed at the end, come what may."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def device_of(module: nn.Module) -> torch.device:
    """Where the module's weights are; a module without any is on the CPU."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
