"""A net in the toolchain's own cache, between two stages, and the digest of weights.

Steps change architectures (pruning narrows layers), so weights alone would not do: the whole module is pickled. A
pickle can run code, which is acceptable here and only here: the file is written by this user into a folder of mode
0700, is read back only when it is still hers and its digest fits, and never leaves the cache. What a user hands in is
never read by this module (toolchain/models refuses pickles), and a bundle holds ONNX-made artifacts only.
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

REDO_HINT = "delete it, and the step is done again"


def weights_digest(module: nn.Module) -> str:
    """sha256 over names, types, shapes and bytes of every parameter and buffer, in order."""
    running = sha256()
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor):
            running.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            running.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return running.hexdigest()


def save_compressed(net: CompressedModel, path: Path) -> None:
    """Write `net` whole, its digest beside it (`<path>.sha256`); ModelError when its classes cannot be pickled."""
    content = BytesIO()
    try:
        torch.save(net, content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the model cannot be kept between steps: {error}; define its classes at the top level of their file, "
            "without lambdas as attributes"
        ) from error
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    write_atomically(path, content.getvalue())
    write_atomically(_digest_path(path), sha256(content.getvalue()).hexdigest().encode())


def load_compressed(path: Path) -> CompressedModel:
    """The net in `path`, on the CPU; ModelError when it is not there whole, was written by someone else, or its module
    comes from a user's file that has not been imported (toolchain.models.import_user_file) in this process."""
    if not path.is_file() or not _digest_path(path).is_file():
        raise ModelError(f"{path}: no saved net here; build again: toolchain build")
    status = path.stat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise ModelError(f"{path}: not written by this user alone, so it is not loaded; {REDO_HINT}")
    if digest_of(path) != _digest_path(path).read_text():
        raise ModelError(f"{path}: changed since it was saved (digest differs); {REDO_HINT}")
    try:
        net = torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"{path}: the model's own code is not there ({error}); import its file before the saved net is loaded, "
            f"or {REDO_HINT}"
        ) from error
    if not isinstance(net, CompressedModel):
        raise ModelError(f"{path}: expected a saved net, found {type(net).__name__}; {REDO_HINT}")
    return net


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
