"""The processes that torchrun started, seen from one of them: who it is, and what they tell each other.

Without torchrun the world is this process alone, and everything here does nothing. Knows nothing of training or stages.
What is told is pickled and goes unencrypted between the processes, as torch's own traffic does: use a private network.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from toolchain.errors import RecipeError, ToolchainError

ValueT = TypeVar("ValueT")
TIMEOUT = timedelta(hours=1)  # a process may wait so long for another; one that died is noticed at once
LOST_PEER = re.compile(
    "gloo|nccl|connection|peer|timed out|store", re.IGNORECASE
)  # in what torch says of a lost process


@dataclass(frozen=True)
class DistributedContext:
    """rank: 0 .. size - 1; the first decides, writes and goes on alone after the training. leader: the first of this
    machine, which keeps this machine's cache."""

    rank: int = 0
    size: int = 1
    is_local_first: bool = True
    object_group: Any = None  # over the CPU, also where tensors go from GPU to GPU

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def broadcast(self, value: ValueT) -> ValueT:
        """The first process's `value`, in all."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.object_group)
        return box[0]

    def all_gather(self, value: ValueT) -> list[ValueT]:
        """Every process's `value`, by rank."""
        if self.size == 1:
            return [value]
        found: list[ValueT] = [value] * self.size
        dist.all_gather_object(found, value, group=self.object_group)
        return found

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def run_on_first(self, function: Callable[[], ValueT]) -> ValueT:
        """What the first process finds; the others wait and take its word (a latency, differs with every look)."""
        box = [function()] if self.is_first else []
        return self.broadcast(box)[0]

    @torch.no_grad()
    def average_(self, tensors: list[Tensor]) -> None:
        """Floating-point tensors become their mean over all processes."""
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.size == 1 or not floating:
            return
        whole = self.all_reduce(torch.cat([tensor.flatten().float() for tensor in floating])) / self.size
        parts = torch.split(whole, [tensor.numel() for tensor in floating])
        for tensor, mean in zip(floating, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))


SINGLE_PROCESS = DistributedContext()


def distributed_context() -> DistributedContext:
    """The world of this process, joined at the first call; RecipeError where there are fewer GPUs than processes."""
    return _join_process_group() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else SINGLE_PROCESS


@cache
def _join_process_group() -> DistributedContext:
    place, processes = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    if on_gpu and processes > torch.cuda.device_count():
        raise RecipeError(
            f"{processes} processes on a machine with {torch.cuda.device_count()} GPUs; "
            f"start as many as there are: torchrun --nproc-per-node={torch.cuda.device_count()}"
        )
    if on_gpu:
        torch.cuda.set_device(place)
    told = dist.new_group(backend="gloo", timeout=TIMEOUT) if on_gpu else dist.group.WORLD
    return DistributedContext(dist.get_rank(), dist.get_world_size(), place == 0, told)


def training_device() -> torch.device:
    """This process's GPU when there is one."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device()) if distributed_context().size > 1 else torch.device("cuda")


def leave_process_group(world: DistributedContext) -> None:
    """All training is done: the first process goes on alone, the others end well."""
    if world.size == 1:
        return
    dist.barrier(group=world.object_group)
    dist.destroy_process_group()
    _join_process_group.cache_clear()
    os.environ["WORLD_SIZE"] = "1"  # whoever asks later is alone
    if not world.is_first:
        raise SystemExit(0)


@contextmanager
def report_error_once() -> Iterator[DistributedContext]:
    """The world, joined; what goes wrong in several processes is said by one of them, and ends all.

    The others, waiting for one that ended, are ended by torchrun or find its connection closed."""
    try:
        yield distributed_context()
    except (Exception, KeyboardInterrupt) as error:
        if not dist.is_initialized():  # alone, from the start or by now
            raise
        if dist.distributed_c10d._get_default_store().add("toolchain/said", 1) > 1:
            raise SystemExit(getattr(error, "exit_code", 1)) from None
        if isinstance(error, RuntimeError) and LOST_PEER.search(str(error)):
            raise ToolchainError(
                "another process of this training ended or cannot be reached; run the same command again to go on"
            ) from error
        raise
