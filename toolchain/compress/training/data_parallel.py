"""A loss computed by several processes, each on its slice of a batch, with the gradients of the whole batch.

Knows how torch's DistributedDataParallel is to be held; knows nothing of epochs or options.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from toolchain.compress.distributed import DistributedContext

LossFunction = Callable[[nn.Module, Tensor, Tensor], Tensor]


class LossModule(nn.Module):
    """The loss as a module: a wrapper with teachers, exits or regressors calls the net as often as it likes.

    idle: DistributedDataParallel must look for parameters without a gradient in every step, since layers are frozen and
    thawed after it is made; where there never are any it says on stderr that looking is a waste. So there is one."""

    def __init__(self, module: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.module, self.loss = module, loss
        self.idle = nn.Parameter(torch.zeros((), device=next(module.parameters()).device))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.module, images, labels)


@contextmanager
def data_parallel_loss(
    module: nn.Module, loss: LossFunction, learning: list[nn.Parameter], world: DistributedContext, device: torch.device
) -> Iterator[nn.Module]:
    """(images, labels) -> loss; its backward averages gradients over all processes. All begin with the first one's
    weights. learning: all that any epoch trains. On GPUs BatchNorm sees the whole batch while this lasts."""
    if world.size == 1:
        yield LossModule(module, loss)
        return
    with warnings.catch_warnings(), synchronize_batch_norms(module, device):
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        for parameter in learning:
            parameter.requires_grad_(True)  # DistributedDataParallel never learns of what is frozen when it is made
        yield DistributedDataParallel(
            LossModule(module, loss),
            device_ids=[device] if device.type == "cuda" else None,
            forward_sync_buffers=False,  # statistics are averaged instead, see keeping.py
            find_unused_parameters=True,
        )


@contextmanager
def synchronize_batch_norms(module: nn.Module, device: torch.device) -> Iterator[None]:
    """On GPUs every BatchNorm is torch's SyncBatchNorm for the time being, with the same parameters and statistics."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    own = [(name, layer) for name, layer in module.named_modules() if type(layer) in kinds and name]
    own = own if device.type == "cuda" else []
    for name, layer in own:
        synchronized: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(layer)  # type: ignore[no-untyped-call]  # torch's
        module.set_submodule(name, synchronized)
    try:
        yield
    finally:
        for name, layer in own:
            module.set_submodule(name, layer)
