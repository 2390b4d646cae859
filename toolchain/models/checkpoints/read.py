"""Reads a checkpoint file by its content, whatever it is called: safetensors, or what torch.save wrote.

A .pt file that holds more than tensors is read without running any of it. Knows nothing of the module to be filled.
"""

import json
import pickle
import shlex
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from toolchain.errors import ModelError
from toolchain.models.checkpoints.torch_pickle import read_archive, read_legacy
from toolchain.recipe_files import require_checkpoint

ZIP, PICKLE = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number of torch's old form
SAFETENSORS_HEADER_BYTES = 8  # its length, then JSON
KNOWN_STARTS = {
    b"version https://git-lfs": "a Git LFS pointer instead of the file; fetch it: git lfs pull",
    b"\x89HDF": 'an HDF5 file, as Keras writes; export the model to ONNX: model.source = "model.onnx"',
    b"<": "a web page instead of the file; download it again",
}
CONVERT_PROGRAM = 'import torch; torch.save(torch.jit.load({0}, map_location="cpu").state_dict(), {1})'


def read_checkpoint(path: Path) -> Any:
    """What the file holds: tensors by name, or mappings that hold them somewhere. No code in the file is ever run.
    ModelError for a file that is no checkpoint, is damaged, or holds a program."""
    require_checkpoint(path)
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(ZIP):
        return _read_zip(path)
    if start.startswith(PICKLE):
        return _read_pickles(path, lambda: read_legacy(path))
    if path.suffix == ".safetensors" or start[SAFETENSORS_HEADER_BYTES:].startswith(b'{"'):
        return _read_safetensors(path)
    what = next((what for known, what in KNOWN_STARTS.items() if start.lstrip().startswith(known)), None)
    raise ModelError(
        f"{path}: no checkpoint: "
        + (what or f"starts with {start[:8]!r}; expected a file that torch.save or safetensors wrote")
    )


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a complete .safetensors file ({error}); copy it again") from error


def _read_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(f"{path}: incomplete or damaged checkpoint file ({error}); copy it again") from error
    if any("/code/" in name for name in names):
        converted = path.with_name(f"{path.stem}-weights.pt")
        code = CONVERT_PROGRAM.format(json.dumps(str(path)), json.dumps(str(converted)))
        raise ModelError(
            f"{path}: a TorchScript program, which holds code; if you trust it, save its weights and name those "
            f"({converted.name}): {shlex.quote(sys.executable)} -c {shlex.quote(code)}"
        )
    if not any(name.endswith("data.pkl") for name in names):
        raise ModelError(f"{path}: no checkpoint: a zip archive without data.pkl; expected one that torch.save wrote")
    return _read_pickles(path, lambda: read_archive(path))


def _read_pickles(path: Path, read_inert: Callable[[], Any]) -> Any:
    """By torch where it finds nothing but tensors and plain values; else without looking anything up."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it will read differently one day
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        pass
    except Exception as error:  # torch raises whatever damaged bytes make it stumble over
        raise _damaged(path) from error
    try:
        return read_inert()
    except Exception as error:  # so do pickle, zipfile and struct
        raise _damaged(path) from error


def _damaged(path: Path) -> ModelError:
    return ModelError(f"{path}: incomplete or damaged checkpoint file; copy it again")
