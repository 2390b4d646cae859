"""The tensor names and shapes of a network without its weights: built where memory is not touched.

Knows no network by name.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]
Shapes = dict[str, Shape]


class _EmptyOnMeta(TorchFunctionMode):
    """Puts what torch.empty makes, which is every weight, on the meta device. With all of it there (torch.device),
    networks that compute their widths by tensors cannot be built."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # torch's signature
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def build_skeleton(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` builds, with shapes and no values."""
    with _EmptyOnMeta():
        return build()


def shapes_of(state: Mapping[str, Any]) -> Shapes:
    """By name; torch's counters of batches, which old checkpoints lack, are left out."""
    return {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and not name.endswith("num_batches_tracked")
    }
