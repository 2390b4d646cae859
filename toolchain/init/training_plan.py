"""The steps of a recipe for a model and its images: what has to be trained for how long, and what can be tried later.

Each is rehearsed as a build does it, so that what is written works on this network. Knows nothing of files.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from toolchain.compress import check_steps, parse_steps
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.data import DataSet
from toolchain.data.originals import refit
from toolchain.errors import RecipeError, StepError
from toolchain.models import LoadedModel
from toolchain.progress import quiet
from toolchain.records.tensors import Preprocessing

UPDATES = 300  # of the weights, at least: fewer leave a new head where it began
BATCHES = (128, 64, 32, 16, 8)
LEAST_BATCHES_AN_EPOCH = 16
LEAST_EPOCHS, MOST_EPOCHS = 3, 60
LEARNING_RATE = 0.02 / 128  # an image of a batch
CALIBRATION_IMAGES = 300
RawStep = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class TrainingLength:
    batch_size: int
    epochs: int
    images: int

    @property
    def updates(self) -> int:
        return self.epochs * ceil(self.images / self.batch_size)


@dataclass(frozen=True)
class StepProposal:
    """step: as [[step]] has it; why: a comment; is_active: else it is written as a comment, to be tried."""

    step: RawStep
    why: str
    is_active: bool = True


def training_length(images: int) -> TrainingLength:
    """The largest batch that leaves enough of them an epoch, and epochs for UPDATES."""
    fitting = (size for size in BATCHES if images >= size * LEAST_BATCHES_AN_EPOCH)
    batch = min(next(fitting, BATCHES[-1]), images)
    epochs = ceil(UPDATES / ceil(images / batch))
    return TrainingLength(batch, min(max(epochs, LEAST_EPOCHS), MOST_EPOCHS), images)


def propose_steps(
    loaded: LoadedModel, data: DataSet, preprocessing: Preprocessing, is_trained: bool
) -> tuple[StepProposal, ...]:
    """Training where the head or all weights are new; int8; and, as comments, pruning, where this network can be."""
    count = len(data.split("train"))
    length, needs_head = training_length(count), not loaded.head_fits
    options: dict[str, Any] = {
        "epochs": length.epochs,
        "batch_size": length.batch_size,
        "lr": round(LEARNING_RATE * length.batch_size, 5),
    }
    said = f"{length.updates} updates: {length.epochs} epochs of {count} images in batches of {length.batch_size}"
    proposals = []
    if needs_head or not is_trained:
        new = {"replace_head": True, "freeze": "backbone", "unfreeze_after": max(1, length.epochs // 3)}
        why = f"a new head for {len(data.classes)} classes, the rest follows after a third; {said}"
        if not is_trained:
            new, why = {"replace_head": True} if needs_head else {}, f"from random weights; {said}"
        proposals.append(StepProposal({"finetune": {**options, **new}}, why))
    elif loaded.module is not None:
        prune: RawStep = {"prune_channels": {"ratio": 0.3}}
        shorter: RawStep = {"finetune": options}
        why = f"smaller and faster, where int8 alone is not enough; then trained again, {said}"
        proposals += [StepProposal(prune, why, False), StepProposal(shorter, "", False)]
    samples = min(CALIBRATION_IMAGES, count)
    proposals.append(StepProposal({"quantize": {"samples": samples}}, f"int8, ranges found on {samples} images"))
    return _rehearse_steps(loaded, data, preprocessing, proposals)


def _rehearse_steps(
    loaded: LoadedModel, data: DataSet, preprocessing: Preprocessing, proposals: list[StepProposal]
) -> tuple[StepProposal, ...]:
    """Without the comments that this network refuses. RecipeError where a step that is needed is refused."""
    if loaded.module is None:
        return tuple(proposals)
    fitted = refit(data, preprocessing)

    def rehearse(steps: tuple[RawStep, ...]) -> None:
        with quiet("toolchain"), TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
            context = StepContext(fitted, preprocessing, Path(folder), output=loaded.output, original=_copier(loaded))
            model = CompressedModel(deepcopy(loaded.require_module()))
            check_steps(parse_steps(steps, "init"), model, context, "init")

    rehearse(tuple(proposal.step for proposal in proposals if proposal.is_active))
    try:
        rehearse(tuple(proposal.step for proposal in proposals))
    except (RecipeError, StepError):
        return tuple(proposal for proposal in proposals if proposal.is_active)
    return tuple(proposals)


def _copier(loaded: LoadedModel) -> Callable[[], torch.nn.Module]:
    return lambda: deepcopy(loaded.require_module())
