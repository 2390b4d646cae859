"""The state of a training after an epoch, written atomically: everything needed to resume as if uninterrupted.

Loaded with torch's weights-only unpickler, which runs no code.
"""

import pickle
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toolchain.compress.distributed import SINGLE_PROCESS, DistributedContext
from toolchain.records.storage import write_atomically

CHECKPOINT_FILE = "training.pt"
TrainingState = dict[str, Tensor]


@dataclass
class Checkpoint:
    """key: identifies the training; a checkpoint with another key is ignored. epoch: the number of finished epochs.
    best: the weights with the highest validation accuracy so far; ema: the moving average of the weights."""

    key: str
    epoch: int = 0
    model: TrainingState = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    ema: TrainingState = field(default_factory=dict)
    updates: int = 0
    best: TrainingState = field(default_factory=dict)
    best_accuracy: float = -1.0
    history: list[dict[str, float]] = field(default_factory=list)


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    content = BytesIO()
    torch.save(vars(checkpoint), content)
    write_atomically(folder / CHECKPOINT_FILE, content.getvalue())


def load_checkpoint(
    folder: Path, key: str, device: torch.device, distributed: DistributedContext = SINGLE_PROCESS
) -> Checkpoint:
    """The checkpoint in the first process's `folder` when its key matches; else a new one, at epoch 0."""
    path = folder / CHECKPOINT_FILE
    key, content = distributed.broadcast((key, path.read_bytes() if path.is_file() else b""))
    try:
        checkpoint = Checkpoint(**torch.load(BytesIO(content), map_location=device, weights_only=True))
    except (RuntimeError, pickle.UnpicklingError, TypeError, EOFError):
        return Checkpoint(key)  # missing, of another version, or damaged: start over
    return checkpoint if checkpoint.key == key else Checkpoint(key)


def copy_state_dict(state: TrainingState) -> TrainingState:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
