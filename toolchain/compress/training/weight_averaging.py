"""Chooses the weights that a training keeps: a moving average instead of the last, the best epoch instead of both."""

from copy import deepcopy

import torch
from torch import nn

from toolchain.compress.distributed import DistributedContext
from toolchain.compress.metrics import accuracy
from toolchain.compress.step import StepContext
from toolchain.compress.training.checkpoint import Checkpoint, copy_state_dict


@torch.no_grad()
def update_ema(decay: float, module: nn.Module, state: Checkpoint) -> None:
    """Update the exponential moving average of weights and statistics, with a shorter memory at first (as TensorFlow
    does)."""
    now = module.state_dict()
    if not state.ema:
        state.ema = copy_state_dict(now)
    state.updates += 1
    floating = [name for name, tensor in now.items() if tensor.is_floating_point()]
    weight = 1 - min(decay, (1 + state.updates) / (10 + state.updates))
    torch._foreach_lerp_([state.ema[name] for name in floating], [now[name] for name in floating], weight)
    for name in now.keys() - set(floating):
        state.ema[name].copy_(now[name])


def average_buffers(module: nn.Module, state: Checkpoint, distributed: DistributedContext) -> None:
    """Give all processes the mean of their buffers. On CPUs each process normalizes by its own slice of a batch
    (torch's SyncBatchNorm needs a GPU), so the processes' running statistics are equally good estimates."""
    names = [name for name, _ in module.named_buffers()]
    distributed.average_([*module.buffers(), *(state.ema[name] for name in names if name in state.ema)])


def validate_epoch(
    module: nn.Module, state: Checkpoint, context: StepContext, keep_best: bool, distributed: DistributedContext
) -> dict[str, float]:
    """Validation accuracy of the weights that would be kept now, where there are validation images. Records the best
    weights; of equals the later, which was trained at the lower learning rate."""
    split = context.data.splits.get("validate")
    if split is None or not len(split):
        return {}
    judged = module
    if state.ema:
        judged = deepcopy(module)
        judged.load_state_dict(state.ema)
    title = f"epoch {state.epoch + 1}: validate"
    validated = distributed.run_on_first(lambda: accuracy(judged, split, context.preprocessing, title, context.output))
    if keep_best and validated >= state.best_accuracy:
        state.best, state.best_accuracy = copy_state_dict(judged.state_dict()), validated
    return {"accuracy_validate": validated}
