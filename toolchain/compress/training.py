"""The training loop: epochs of SGD over a part, validated and checkpointed after each, resumed where it was killed.

Knows nothing of what the loss means or which layers are frozen: both are handed in, so that fine-tuning, distillation
and quantization-aware training share it. On a CPU with the same number of threads a resumed run ends with the very
weights of an uninterrupted one: every epoch draws from random streams of its own, named by seed and epoch.
"""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolchain.compress.batches import Batches
from toolchain.compress.checkpoint import Checkpoint, copied, load_checkpoint, save_checkpoint
from toolchain.compress.measured import accuracy
from toolchain.compress.options import TrainingOptions
from toolchain.compress.step import Context, Net
from toolchain.errors import ModelError, RecipeError
from toolchain.models.program import Program
from toolchain.progress import counted

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Training:
    """One training. module: what learns; called in evaluation mode it gives logits, as a net does (a wrapper that holds
    more than the student does too). groups: SGD parameter groups, each with its `factor` of the learning rate;
    ready(module, epoch) sets modes and frozen layers before an epoch; key names everything that decides the outcome;
    sparse: parameters, by name, whose zeros stay zeros; before_step(module, steps done, steps an epoch) may zero more
    of them, and says whether it did; no epoch before best_from can be the best."""

    module: nn.Module
    plan: TrainingOptions
    context: Context
    seed: int
    key: str
    loss: Loss
    groups: list[dict[str, Any]]
    ready: Callable[[nn.Module, int], None]
    sparse: tuple[str, ...] = ()
    before_step: Callable[[nn.Module, int, int], bool] | None = None
    best_from: int = 0


def check_trainable(net: Net) -> None:
    """RecipeError for a net that cannot be trained further."""
    if net.quantization is not None:
        raise RecipeError("training after quantize would undo it; move quantize to the end")
    if isinstance(net.module, torch.fx.GraphModule | Program):
        raise RecipeError("an exported program cannot be trained; give the model as path/file.py:function")


def all_learning(module: nn.Module, _: int) -> None:
    """Training.ready of a step that freezes nothing."""
    module.train().requires_grad_(True)


def accelerator() -> torch.device:
    """The GPU when there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def learning_rate(plan: TrainingOptions, done: int, epoch_steps: int) -> float:
    """The rate of the step after `done` steps: a linear warm-up to `lr`, then linear or cosine (Loshchilov & Hutter
    2017) down to `lr_end`, or constant."""
    warmup, total = plan.warmup_epochs * epoch_steps, plan.epochs * epoch_steps
    if done < warmup:
        return plan.lr * min(1.0, (done + 1) / warmup)
    if plan.schedule == "constant":
        return plan.lr
    along = (done - warmup) / max(1.0, total - warmup)
    share = 1 - along if plan.schedule == "linear" else (1 + math.cos(math.pi * along)) / 2
    return plan.lr_end + (plan.lr - plan.lr_end) * share


def train(training: Training) -> tuple[nn.Module, tuple[dict[str, float], ...]]:
    """Train training.module in place; returns it on the CPU in evaluation mode with the weights to keep (the best by
    validation, or the last), and an entry an epoch: epoch, loss, accuracy_validate, lr, seconds.

    ModelError when the loss is no longer finite; the checkpoint of the last whole epoch stays in context.folder.
    """
    device, plan, context = accelerator(), training.plan, training.context
    module = training.module.to(device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(training.groups, lr=plan.lr, momentum=plan.momentum, nesterov=plan.nesterov)
    state = load_checkpoint(context.folder, training.key, device)
    if state.epoch:
        module.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        context.say(f"going on after epoch {state.epoch} of {plan.epochs}")
    part = context.data.part("train")
    batches = Batches(part, context.preprocessing, device, plan.samples, training.seed)
    began, first = time.monotonic(), state.epoch
    for epoch in range(first, plan.epochs):
        _epoch(training, module, optimizer, batches, state)
        left = (time.monotonic() - began) / (epoch + 1 - first) * (plan.epochs - epoch - 1)
        context.say(f"{_sentence(state.history[-1], plan.epochs)}, {left:.0f} s left")
    module.load_state_dict(state.best or state.ema or state.model)
    module.zero_grad(set_to_none=True)
    return module.cpu().eval(), tuple(state.history)


def _epoch(
    training: Training, module: nn.Module, optimizer: torch.optim.SGD, batches: Batches, state: Checkpoint
) -> None:
    """One epoch, validated; `state` is brought up to date and written."""
    began, epoch = time.monotonic(), state.epoch
    devices = [batches.device] if batches.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(training.seed * 1_000_003 + epoch)  # dropout's stream; the pictures' own comes below
        training.ready(module, epoch)
        loss = _pass(training, module, optimizer, batches, state)
    entry = {"epoch": float(epoch + 1), "loss": loss, "lr": float(optimizer.param_groups[-1]["lr"])}
    entry |= _validated(training, module, state)
    state.history.append({**entry, "seconds": time.monotonic() - began})
    state.epoch, state.model, state.optimizer = epoch + 1, module.state_dict(), optimizer.state_dict()
    save_checkpoint(state, training.context.folder)


def _pass(
    training: Training, module: nn.Module, optimizer: torch.optim.SGD, batches: Batches, state: Checkpoint
) -> float:
    """Every batch once; the mean loss."""
    plan, epoch, losses = training.plan, state.epoch, 0.0
    steps = batches.count(plan.batch_size)
    random = torch.Generator().manual_seed(training.seed * 1_000_003 + epoch)
    mixed = batches.device.type == "cuda" and torch.cuda.is_bf16_supported()
    pairs = batches.shuffled(plan.batch_size, plan.augment, random, small=epoch < plan.small_epochs)
    zeros = _zeros(training, module)
    for step, (images, labels) in enumerate(counted(pairs, f"epoch {epoch + 1}/{plan.epochs}", steps)):
        if training.before_step is not None and training.before_step(module, epoch * steps + step, steps):
            zeros = _zeros(training, module)
        rate = learning_rate(plan, epoch * steps + step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        with torch.autocast(batches.device.type, torch.bfloat16, enabled=mixed):
            loss = training.loss(module, images, labels)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ModelError(_not_finite(value, epoch, step, steps, plan.lr))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        _average(plan.ema_decay, module, state)
        _keep_zeros(zeros, module, state)
        losses += value
    return losses / steps


def _zeros(training: Training, module: nn.Module) -> dict[str, Tensor]:
    """Where the parameters of training.sparse are zero now."""
    return {name: parameter == 0 for name, parameter in module.named_parameters() if name in training.sparse}


@torch.no_grad()
def _keep_zeros(zeros: dict[str, Tensor], module: nn.Module, state: Checkpoint) -> None:
    """In the weights and in their running average, which would only come near zero."""
    for name, zero in zeros.items():
        module.get_parameter(name).masked_fill_(zero, 0.0)
        if state.ema:
            state.ema[name].masked_fill_(zero, 0.0)


def _validated(training: Training, module: nn.Module, state: Checkpoint) -> dict[str, float]:
    """Validation accuracy of the weights that would be kept now, where there are pictures; the best are noted."""
    part = training.context.data.parts.get("validate")
    if part is None or not len(part):
        return {}
    judged = module
    if state.ema:
        judged = deepcopy(module)
        judged.load_state_dict(state.ema)
    found = accuracy(judged, part, training.context.preprocessing, f"epoch {state.epoch + 1}: validate")
    if training.plan.keep_best and state.epoch >= training.best_from and found > state.best_accuracy:
        state.best, state.best_accuracy = copied(judged.state_dict()), found
    return {"accuracy_validate": found}


@torch.no_grad()
def _average(decay: float | None, module: nn.Module, state: Checkpoint) -> None:
    """Exponential moving average of weights and statistics, over few updates at first (as TensorFlow's)."""
    if decay is None:
        return
    if not state.ema:
        state.ema = copied(module.state_dict())
    state.updates += 1
    weight = 1 - min(decay, (1 + state.updates) / (10 + state.updates))
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            state.ema[name].lerp_(tensor, weight)
        else:
            state.ema[name].copy_(tensor)


def _sentence(entry: dict[str, float], epochs: int) -> str:
    shown = f", validate {entry['accuracy_validate']:.2%}" if "accuracy_validate" in entry else ""
    return f"epoch {entry['epoch']:.0f}/{epochs}: loss {entry['loss']:.4f}{shown}, {entry['seconds']:.0f} s"


def _not_finite(value: float, epoch: int, step: int, steps: int, rate: float) -> str:
    kept = f"the checkpoint after epoch {epoch} is kept" if epoch else "no epoch was whole yet"
    return (
        f"the loss became {value} in epoch {epoch + 1}, step {step + 1} of {steps} ({kept}); "
        f"lower the learning rate: lr = {rate / 5:g} instead of {rate:g}, or add warmup_epochs = 1"
    )
