"""The training loop: epochs of SGD over a data split, validated and checkpointed after each, resumed after a kill.

The loss and the frozen layers are passed in, so that fine-tuning, distillation and quantization-aware training share
the loop. On a CPU with the same number of threads a resumed run ends with exactly the weights of an uninterrupted one:
every epoch has random streams of its own, derived from seed and epoch. Under torchrun every process takes its slice of
each batch, and all end with the same weights.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolchain.compress.batches import Batches
from toolchain.compress.distributed import DistributedContext, distributed_context, training_device
from toolchain.compress.options import TrainingOptions, uses_bf16
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from toolchain.compress.training.data_parallel import LossFunction, data_parallel_loss
from toolchain.compress.training.sparsity_masks import SparsityMasks
from toolchain.compress.training.weight_averaging import average_buffers, update_ema, validate_epoch
from toolchain.errors import ModelError, RecipeError
from toolchain.models.eval_mode import temporary_hooks
from toolchain.models.exported_program import ProgramModule
from toolchain.models.memory_layout import lay_out_weights
from toolchain.progress import track
from toolchain.records.output import OutputKind

logger = logging.getLogger(__name__)


__all__ = [
    "LossFunction",
    "Training",
    "check_trainable",
    "learning_rate",
    "train",
    "train_all_layers",
    "training_device",
]


@dataclass(frozen=True)
class Training:
    """Everything that one training needs.

    module: the model to train, or a wrapper around it; in evaluation mode it returns logits. loss(module, images,
    labels): labels are int64 [N], or float32 [N, classes] where images are mixed. key: identifies everything that
    decides the outcome. parameter_groups: SGD's, each with its `factor` of the learning rate. start_epoch(module,
    epoch): sets modes and frozen layers. sparse: names of parameters whose zeros stay zero. before_step(module, steps
    done, steps per epoch): may zero more of them, and returns whether it did. best_from_epoch: the first epoch that may
    be kept as the best.
    """

    module: nn.Module
    options: TrainingOptions
    context: StepContext
    seed: int
    key: str
    loss: LossFunction
    parameter_groups: list[dict[str, Any]]
    start_epoch: Callable[[nn.Module, int], None]
    sparse: tuple[str, ...] = ()
    before_step: Callable[[nn.Module, int, int], bool] | None = None
    best_from_epoch: int = 0


def check_trainable(model: CompressedModel) -> None:
    """Raise RecipeError for a model that cannot be trained further."""
    if model.quantization is not None:
        raise RecipeError("training after quantize would undo it; move quantize to the end")
    made_by_qat = model.learned is not None  # qat replaced its additions by torch.fx, whose graphs can be trained
    if isinstance(model.module, torch.fx.GraphModule | ProgramModule) and not made_by_qat:
        raise RecipeError("an exported program cannot be trained; give the model as path/file.py:function")


def train_all_layers(module: nn.Module, _: int) -> None:
    """The `start_epoch` of a training that freezes nothing."""
    module.train().requires_grad_(True)


def learning_rate(plan: TrainingOptions, done: int, epoch_steps: int) -> float:
    """The learning rate after `done` steps: linear warm-up to `lr`, then linear or cosine (Loshchilov & Hutter 2017)
    decay to `lr_end`, or constant."""
    warmup, total = plan.warmup_epochs * epoch_steps, plan.epochs * epoch_steps
    if done < warmup:
        return plan.lr * min(1.0, (done + 1) / warmup)
    if plan.schedule == "constant":
        return plan.lr
    along = (done - warmup) / max(1.0, total - warmup)
    share = 1 - along if plan.schedule == "linear" else (1 + math.cos(math.pi * along)) / 2
    return plan.lr_end + (plan.lr - plan.lr_end) * share


@dataclass(frozen=True)
class _TrainingState:
    """What the epochs of a training share. loss_module: (images, labels) -> loss, over all processes."""

    training: Training
    module: nn.Module
    loss_module: nn.Module
    optimizer: torch.optim.SGD
    batches: Batches
    state: Checkpoint
    distributed: DistributedContext


def train(training: Training) -> tuple[nn.Module, tuple[dict[str, float], ...]]:
    """Train training.module in place; returns it on the CPU in evaluation mode with the weights to keep (the best by
    validation, or the last), and per epoch: epoch, loss, lr, accuracy_train (top-1 on the augmented batches, while
    weights changed), accuracy_validate, seconds.

    ModelError when the loss is no longer finite; the checkpoint of the last finished epoch stays in context.folder.
    """
    device, plan, context, distributed = training_device(), training.options, training.context, distributed_context()
    module = training.module.to(device)
    layout = lay_out_weights(module, context.preprocessing)
    optimizer = torch.optim.SGD(training.parameter_groups, lr=plan.lr, momentum=plan.momentum, nesterov=plan.nesterov)
    state = load_checkpoint(context.folder, training.key, device, distributed)
    if state.epoch:
        module.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        logger.info(f"resuming after epoch {state.epoch} of {plan.epochs}")
    split, classes = context.data.split("train"), len(context.data.classes)
    batches = Batches(split, context.preprocessing, device, plan.samples, training.seed, classes, layout)
    learning = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    with data_parallel_loss(module, training.loss, learning, distributed, device) as learner:
        running = _TrainingState(training, module, learner, optimizer, batches, state, distributed)
        began, first = time.monotonic(), state.epoch
        for epoch in range(first, plan.epochs):
            _run_epoch(running)
            left = (time.monotonic() - began) / (epoch + 1 - first) * (plan.epochs - epoch - 1)
            logger.info(f"{_format_epoch(state.history[-1], plan.epochs)}, {left:.0f} s left")
    module.load_state_dict(state.best or state.ema or state.model)
    module.zero_grad(set_to_none=True)
    return module.cpu().eval(), tuple(state.history)


def _run_epoch(running: _TrainingState) -> None:
    """Train and validate one epoch, then write the checkpoint."""
    training, state, distributed = running.training, running.state, running.distributed
    began, epoch, device = time.monotonic(), state.epoch, running.batches.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        # for dropout, a stream per process; the images' stream, below, is the same in all
        torch.manual_seed(training.seed * 1_000_003 + epoch + distributed.rank * 7_368_787)
        training.start_epoch(running.module, epoch)
        loss = _train_batches(running)
    average_buffers(running.module, state, distributed)
    entry = {"epoch": float(epoch + 1), "lr": float(running.optimizer.param_groups[-1]["lr"]), **loss}
    may_keep = training.options.keep_best and epoch >= training.best_from_epoch
    entry |= validate_epoch(running.module, state, training.context, may_keep, distributed)
    state.history.append({**entry, "seconds": time.monotonic() - began})
    state.epoch, state.model, state.optimizer = epoch + 1, running.module.state_dict(), running.optimizer.state_dict()
    if distributed.is_first:
        save_checkpoint(state, training.context.folder)


def _train_batches(running: _TrainingState) -> dict[str, float]:
    """Train on every batch once; returns the mean loss and, where logits were captured, the training accuracy."""
    training, plan, module, batches = running.training, running.training.options, running.module, running.batches
    distributed, epoch, optimizer = running.distributed, running.state.epoch, running.optimizer
    steps, losses, right, seen = batches.batch_count(plan.batch_size), 0.0, 0.0, 0
    batch = min(plan.batch_size, len(batches.chosen))
    random = torch.Generator().manual_seed(training.seed * 1_000_003 + epoch)
    bf16, small, slice_of = (
        uses_bf16(plan, batches.device),
        epoch < plan.small_epochs,
        (distributed.rank, distributed.size),
    )
    pairs = batches.random_batches(plan.batch_size, plan.augment, random, small, slice_of)
    zeros = SparsityMasks(module, training.sparse)
    with _capture_outputs(module) as answers:
        for step, (images, labels) in enumerate(track(pairs, f"epoch {epoch + 1}/{plan.epochs}", steps)):
            if training.before_step is not None and training.before_step(module, epoch * steps + step, steps):
                zeros.refresh()
            rate = learning_rate(plan, epoch * steps + step, steps)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            with torch.autocast(batches.device.type, torch.bfloat16, enabled=bf16):
                loss = running.loss_module(images, labels)
            if distributed.size > 1:
                loss = loss * (len(labels) * distributed.size / batch)  # slices may differ in size by one
            value, hits, known = _batch_metrics(loss, answers, labels, training.context.output, distributed)
            if not math.isfinite(value):
                raise ModelError(_non_finite_message(value, epoch, step, steps, plan.lr))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            if plan.ema_decay is not None:
                update_ema(plan.ema_decay, module, running.state)
            zeros.apply(running.state.ema)
            losses, right, seen = losses + value, right + hits, seen + known
    return {"loss": losses / steps} | ({"accuracy_train": right / seen} if seen else {})


def _batch_metrics(
    loss: Tensor, answers: list[Any], labels: Tensor, output: OutputKind, distributed: DistributedContext
) -> tuple[float, float, int]:
    """Over all processes: the batch's loss, the number of correct predictions, and the number of images they cover. The
    class of a mixed image is the one with the larger share."""
    logits = answers[-1] if answers else None
    answers.clear()
    while isinstance(logits, tuple) and logits:  # followed by auxiliary outputs, or a second student's
        logits = logits[0]
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(labels):
        return float(distributed.all_reduce(loss.detach())) / distributed.size, 0.0, 0
    wanted = labels.cpu().numpy()
    if output.is_multilabel(logits.shape[1]):
        wanted = wanted >= 0.5 if wanted.ndim == 2 else wanted
    elif wanted.ndim == 2:
        wanted = wanted.argmax(1)
    hits = float(output.grade(logits.detach().float().cpu().numpy(), wanted).sum())
    counts = torch.tensor((hits, float(len(labels))), device=loss.device)
    total, right, known = distributed.all_reduce(torch.cat((loss.detach().float().view(1), counts))).tolist()
    return total / distributed.size, right, int(known)


@contextmanager
def _capture_outputs(module: nn.Module) -> Iterator[list[Any]]:
    """Collects the outputs of `module` in this context: the loss alone does not give the accuracy."""
    outputs: list[Any] = []
    with temporary_hooks([module.register_forward_hook(lambda _, __, answer: outputs.append(answer))]):
        yield outputs


def _format_epoch(entry: dict[str, float], epochs: int) -> str:
    shown = f", validate {entry['accuracy_validate']:.2%}" if "accuracy_validate" in entry else ""
    return f"epoch {entry['epoch']:.0f}/{epochs}: loss {entry['loss']:.4f}{shown}, {entry['seconds']:.0f} s"


def _non_finite_message(value: float, epoch: int, step: int, steps: int, rate: float) -> str:
    kept = f"the checkpoint after epoch {epoch} is kept" if epoch else "no epoch was finished yet"
    return (
        f"the loss became {value} in epoch {epoch + 1}, step {step + 1} of {steps} ({kept}); "
        f"lower the learning rate: lr = {rate / 5:g} instead of {rate:g}, or add warmup_epochs = 1"
    )
