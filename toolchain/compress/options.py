"""The options that every training step has, and the checks made before training.

Knows nothing of a step's objective.
"""

from hashlib import sha256
from typing import Annotated, Literal

import msgspec
import torch
from torch import nn

from toolchain.compress.augment import Augmentation
from toolchain.compress.distributed import distributed_context, training_device
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import StepContext
from toolchain.errors import RecipeError
from toolchain.records.storage import encode_record

Positive = Annotated[float, msgspec.Meta(gt=0)]
NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Fraction = Annotated[float, msgspec.Meta(ge=0, lt=1)]
PositiveInt = Annotated[int, msgspec.Meta(ge=1)]


class TrainingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a training: SGD with a one-cycle schedule (Smith 2018) on the data's train split.

    After warmup_epochs of linear warm-up, lr decays to lr_end by `schedule`. batch_size: global, over all processes.
    augment: any of "flip", "crop", "color", "erase", "mixup", "cutmix" (augment.py). small_epochs: the first epochs
    train on windows of three quarters of each image's height and width (progressive resizing; about half the cost).
    ema_decay: keep an exponential moving average of the weights and use it. keep_best: keep the epoch with the best
    accuracy on the validate split (the later one of equals) instead of the last. samples: train on a random subset of
    this size. seed: None takes the build's. mixed_precision: bf16 always ("on"), where it is known to be faster
    ("auto": GPUs, CPUs with AMX), or "off".

    The device that "auto" resolves to is not part of the training's key, and neither is the number of threads or
    processes: a training may resume on another machine, where its result is the same only within noise.
    """

    epochs: PositiveInt = 10
    lr: Positive = 0.02
    lr_end: NonNegative = 0.0
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    warmup_epochs: NonNegative = 0.0
    batch_size: PositiveInt = 128
    momentum: Fraction = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 5e-4
    label_smoothing: Fraction = 0.0
    augment: tuple[Augmentation, ...] = ("flip", "crop")
    small_epochs: Annotated[int, msgspec.Meta(ge=0)] = 0
    ema_decay: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None
    keep_best: bool = True
    samples: PositiveInt | None = None
    seed: Annotated[int, msgspec.Meta(ge=0)] | None = None
    mixed_precision: Literal["auto", "on", "off"] = "auto"


def check_training(options: TrainingOptions, context: StepContext) -> None:
    """Raise RecipeError for data without labelled training images, or options that contradict each other."""
    data = context.data
    if "train" not in data.splits or not len(data.split("train")):
        raise RecipeError(f"data '{data.name}' has no training images; choose data with a train split")
    if options.warmup_epochs >= options.epochs:
        raise RecipeError(f"warmup_epochs = {options.warmup_epochs:g} of {options.epochs} epochs: expected fewer")
    if options.small_epochs >= options.epochs:
        raise RecipeError(f"small_epochs = {options.small_epochs} of {options.epochs} epochs: expected fewer")
    if options.lr_end > options.lr:
        raise RecipeError(f"lr_end = {options.lr_end:g} is above lr = {options.lr:g}; expected at most lr")
    if options.nesterov and not options.momentum:
        raise RecipeError("nesterov needs momentum above 0; set nesterov = false")
    if options.samples is not None and options.samples > len(data.split("train")):
        raise RecipeError(
            f"samples = {options.samples}: data '{data.name}' has {len(data.split('train'))} training images"
        )
    batch, processes = min(options.batch_size, options.samples or len(data.split("train"))), distributed_context().size
    if batch < processes:
        raise RecipeError(
            f"a batch of {batch} for {processes} processes: expected at least one image per process; start fewer"
        )
    if options.mixed_precision == "on" and not supports_bf16(training_device()):
        raise RecipeError('mixed_precision = "on": this GPU has no bf16; set mixed_precision = "off"')


def supports_bf16(device: torch.device) -> bool:
    """Every CPU computes in bf16, if slowly; GPUs do since Ampere."""
    return device.type == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False)


def uses_bf16(options: TrainingOptions, device: torch.device) -> bool:
    """Whether the forward pass runs in bf16 on this device. CPUs without AMX were slower with it (docs/lab.md)."""
    if options.mixed_precision == "auto":
        pays = device.type == "cuda" or torch.cpu.get_capabilities().get("amx_bf16", False)
        return bool(pays and supports_bf16(device))
    return options.mixed_precision == "on"


def seed_of(options: TrainingOptions, context: StepContext) -> int:
    return context.seed if options.seed is None else options.seed


def training_key(options: TrainingOptions, context: StepContext, *models: nn.Module) -> str:
    """Identifies everything that decides the trained weights, so that a checkpoint of other options, data, student or
    teacher (`models`) is not resumed."""
    parts = [options, seed_of(options, context), context.data.sha256, context.preprocessing]
    digests = [weights_digest(model) for model in models]
    return sha256(b"".join(encode_record(part) for part in (*parts, digests))).hexdigest()
