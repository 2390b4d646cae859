"""Saves a model between two stages in the toolchain's own cache, and digests weights.

Steps change architectures (pruning narrows layers), so weights alone are not enough: the whole module is pickled. A
pickle can run code, which is acceptable only here: the file is written by this user into a folder of mode 0700, is
loaded only while it still belongs to that user and matches its digest, and never leaves the cache, whose entries are
read only under the seal of a key that no project folder holds (toolchain/job/seal.py). User-supplied files
are never read by this module (toolchain/models refuses pickles), and a bundle holds only artifacts made from ONNX.
"""

import os
import pickle
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import torch
from torch import Tensor, nn

from toolchain.compress.step import CompressedModel
from toolchain.errors import ModelError
from toolchain.records.storage import digest_of, write_atomically

REDO_HINT = "delete it, and the step runs again"


def weights_digest(module: nn.Module) -> str:
    """sha256 over names, types, shapes and bytes of every parameter and buffer, in order."""
    running = sha256()
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor):
            running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            running.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return running.hexdigest()


def save_compressed(model: CompressedModel, path: Path) -> None:
    """Write `model` atomically, with its digest in `<path>.sha256`; ModelError when its classes cannot be pickled."""
    content = BytesIO()
    try:
        torch.save(model, content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the model cannot be saved between steps: {error}; define its classes at the top level of their file, "
            "without lambdas as attributes"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    write_atomically(path, content.getvalue())
    write_atomically(_digest_path(path), sha256(content.getvalue()).hexdigest().encode())


def load_compressed(path: Path) -> CompressedModel:
    """The model in `path`, on the CPU; ModelError when it is incomplete, was written by another user, or its module
    comes from a user's file that has not been imported in this process (toolchain.models.import_user_file)."""
    if not path.is_file() or not _digest_path(path).is_file():
        raise ModelError(f"{path}: no complete saved model here; build again: toolchain build")
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise ModelError(f"{path}: other users could have written it, so it is not loaded; {REDO_HINT}")
    if digest_of(path) != _digest_path(path).read_text():
        raise ModelError(f"{path}: changed since it was saved (digest differs); {REDO_HINT}")
    try:
        model = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{path}: the model's own code cannot be imported ({error}); import its file before the saved model "
            f"is loaded, or {REDO_HINT}"
        ) from error
    if not isinstance(model, CompressedModel):
        raise ModelError(f"{path}: expected a saved model, found {type(model).__name__}; {REDO_HINT}")
    return model


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
