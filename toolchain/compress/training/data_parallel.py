"""A loss computed by several processes, each on its slice of a batch, with the gradients of the whole batch.

Wraps torch's DistributedDataParallel; knows nothing of epochs or options.
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
    """The loss as a module, so that an objective with teachers, exits or regressors may call the model any number of
    times.

    idle: a parameter that never gets a gradient. DistributedDataParallel must search for unused parameters in every
    step, since layers are frozen and unfrozen after it is built; where it finds none it warns that the search is
    wasteful.
    """

    def __init__(self, module: nn.Module, loss: LossFunction) -> None:
        super().__init__()
        self.module, self.loss = module, loss
        self.idle = nn.Parameter(torch.zeros((), device=next(module.parameters()).device))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.loss(self.module, images, labels)


@contextmanager
def data_parallel_loss(
    module: nn.Module,
    loss: LossFunction,
    learning: list[nn.Parameter],
    distributed: DistributedContext,
    device: torch.device,
) -> Iterator[nn.Module]:
    """(images, labels) -> loss; its backward averages gradients over all processes, which start from the first one's
    weights. learning: every parameter that any epoch trains. On GPUs, BatchNorms normalize over the whole batch in this
    context."""
    if distributed.size == 1:
        yield LossModule(module, loss)
        return
    with warnings.catch_warnings(), synchronize_batch_norms(module, device):
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        for parameter in learning:
            parameter.requires_grad_(
                True
            )  # DistributedDataParallel ignores parameters that are frozen when it is built
        yield DistributedDataParallel(
            LossModule(module, loss),
            device_ids=[device] if device.type == "cuda" else None,
            forward_sync_buffers=False,  # statistics are averaged instead, see weight_averaging.py
            find_unused_parameters=True,
        )


@contextmanager
def synchronize_batch_norms(module: nn.Module, device: torch.device) -> Iterator[None]:
    """On GPUs, replace every BatchNorm by torch's SyncBatchNorm, with the same parameters and statistics, in this
    context."""
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
