"""Context managers for a model in evaluation mode and for temporary hooks, and the device of a model's weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[nn.Module]:
    """Put `module` in evaluation mode, then restore each submodule's own mode. An exported program has only evaluation
    mode and refuses to change it."""
    modes = {submodule: submodule.training for submodule in module.modules()}
    try:
        module.eval()
    except NotImplementedError:
        modes = {}
    try:
        yield module
    finally:
        for submodule, training in modes.items():
            submodule.training = training


@contextmanager
def temporary_hooks(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove the registered hooks `handles` on exit, even after an exception."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def device_of(module: nn.Module) -> torch.device:
    """The device of the module's parameters; the CPU for a module without any."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
