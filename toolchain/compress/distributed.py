"""The processes started by torchrun, seen from one of them: its rank, and collective operations.

Without torchrun there is a single process, and every operation is a no-op. Python objects are pickled and travel
unencrypted between the processes, as torch's own traffic does: use a private network.
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

from toolchain.errors import RecipeError, StepError, ToolchainError

ValueT = TypeVar("ValueT")
TIMEOUT = timedelta(hours=1)  # a process may wait this long for another; a dead one is noticed at once
LOST_PEER = re.compile(
    "gloo|nccl|connection|peer|timed out|store", re.IGNORECASE
)  # in torch's messages about a lost process


@dataclass(frozen=True)
class DistributedContext:
    """rank: 0 .. size - 1; rank 0 decides, writes files, and continues alone after the training. is_local_first: the
    first process on this machine, which keeps this machine's cache. object_group: the process group for Python objects,
    on the CPU even where tensors travel between GPUs."""

    rank: int = 0
    size: int = 1
    is_local_first: bool = True
    object_group: Any = None  # a gloo group on the CPU

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def broadcast(self, value: ValueT) -> ValueT:
        """The first process's `value`, in all processes."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.object_group)
        return box[0]

    def all_gather(self, value: ValueT) -> list[ValueT]:
        """Every process's `value`, by rank."""
        if self.size == 1:
            return [value]
        values: list[ValueT] = [value] * self.size
        dist.all_gather_object(values, value, group=self.object_group)
        return values

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.size > 1:
            tensor = tensor.clone()
            dist.all_reduce(tensor)
        return tensor

    def run_on_first(self, function: Callable[[], ValueT]) -> ValueT:
        """The result of calling `function` in the first process; the others wait and receive it (measured latencies,
        for example, differ from call to call)."""
        box = [function()] if self.is_first else []
        return self.broadcast(box)[0]

    @torch.no_grad()
    def average_(self, tensors: list[Tensor]) -> None:
        """Replace floating-point tensors by their mean over all processes."""
        floating = [tensor for tensor in tensors if tensor.is_floating_point()]
        if self.size == 1 or not floating:
            return
        whole = self.all_reduce(torch.cat([tensor.flatten().float() for tensor in floating])) / self.size
        parts = torch.split(whole, [tensor.numel() for tensor in floating])
        for tensor, mean in zip(floating, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))


SINGLE_PROCESS = DistributedContext()


def distributed_context() -> DistributedContext:
    """This process's context; joins the process group at the first call. RecipeError where there are fewer GPUs than
    processes."""
    return _join_process_group() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else SINGLE_PROCESS


@cache
def _join_process_group() -> DistributedContext:
    place, processes = (int(os.environ[name]) for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    on_gpu = torch.cuda.is_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=TIMEOUT)
    if on_gpu and processes > torch.cuda.device_count():
        raise RecipeError(
            f"{processes} processes on a machine with {torch.cuda.device_count()} GPUs; "
            f"start at most as many as there are GPUs: torchrun --nproc-per-node={torch.cuda.device_count()}"
        )
    if on_gpu:
        torch.cuda.set_device(place)
    group = dist.new_group(backend="gloo", timeout=TIMEOUT) if on_gpu else dist.group.WORLD
    return DistributedContext(dist.get_rank(), dist.get_world_size(), place == 0, group)


def training_device() -> torch.device:
    """This process's GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device()) if distributed_context().size > 1 else torch.device("cuda")


def leave_process_group(distributed: DistributedContext) -> None:
    """Leave the process group when all training is done: the first process continues alone, the others exit with status
    0."""
    if distributed.size == 1:
        return
    dist.barrier(group=distributed.object_group)
    dist.destroy_process_group()
    _join_process_group.cache_clear()
    os.environ["WORLD_SIZE"] = "1"  # later calls see a single process
    if not distributed.is_first:
        raise SystemExit(0)


@contextmanager
def report_error_once() -> Iterator[DistributedContext]:
    """The joined context; an error in any process is reported by exactly one of them and stops the whole run.

    Processes waiting for one that exited are stopped by torchrun, or notice its closed connection.
    """
    try:
        yield distributed_context()
    except (Exception, KeyboardInterrupt) as error:
        if not dist.is_initialized():  # a single process, from the start or by now
            raise
        if dist.distributed_c10d._get_default_store().add("toolchain/reported", 1) > 1:
            raise SystemExit(getattr(error, "exit_code", 1)) from None
        reason = error.__cause__ if isinstance(error, StepError) else error  # torch's own words
        if isinstance(reason, RuntimeError) and LOST_PEER.search(str(reason)):
            raise ToolchainError(
                "another process of this training ended or cannot be reached; run the same command again to resume"
            ) from error
        raise
