"""Loads weights from a local file into a module: safetensors, or a .pt file that torch reads without running code.

Knows the wrappers that training scripts put around a state dict; does not know where the module came from.
"""

import pickle
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from toolchain.errors import ModelError

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
PREFIXES = ("module.", "_orig_mod.")  # nn.DataParallel's and torch.compile's
AUXILIARY_PREFIXES = ("AuxLogits.", "aux1.", "aux2.")  # of Inception-v3 and GoogLeNet, used in training only
CONVERSION_HINT = (
    'if you trust the file, convert it: python -c "import torch; from safetensors.torch import save_file; '
    "m = torch.load('{0}', map_location='cpu', weights_only=False); m = m if isinstance(m, dict) else m.state_dict(); "
    "save_file({{k: v.contiguous() for k, v in m.items()}}, '{1}')\""
)
StateDict = dict[str, Tensor]
MAX_LISTED = 3


def read_state_dict(path: Path) -> tuple[StateDict, tuple[str, ...]]:
    """The tensors in `path` by name, and notes on what was unwrapped or stripped. No code in the file is ever run."""
    if path.suffix not in (".safetensors", ".pt", ".pth"):
        raise ModelError(
            f'model.weights "{path.name}": expected official, random, own, or a .safetensors, .pt or .pth file'
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such file; model.weights names a .safetensors or weights-only .pt file")
    return _unwrap(_read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path), path)


def dequantize(state: StateDict, path: Path) -> StateDict:
    """The state dict with int8 weights of a learned quantization grid converted to floats: NAME.weight times
    NAME.weight_quantizer.scale, one scale per output channel. ModelError when a scale is missing."""
    wide = {}
    for name, integers in state.items():
        if integers.dtype == torch.int8:
            scale = state.get(f"{name}_quantizer.scale")
            if scale is None or scale.shape != integers.shape[:1]:
                raise ModelError(
                    f"{path}: no scales for the int8 weights of '{name}'; the file is damaged: write it again"
                )
            wide[name] = integers.float() * scale.view(-1, *[1] * (integers.ndim - 1))
    return state | wide


def fill_module(module: nn.Module, state: Mapping[str, Tensor], path: Path, source: str) -> tuple[str, ...]:
    """Copy every tensor of `state` into `module`; ModelError names tensors that are missing, unexpected or of another
    shape.

    Returns notes on what was skipped: auxiliary heads, when the module has none.
    """
    wanted = module.state_dict()
    auxiliary = [key for key in state if key.startswith(AUXILIARY_PREFIXES) and key not in wanted]
    state = {key: value for key, value in state.items() if key not in auxiliary}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    other = [key for key in wanted if key in state and wanted[key].shape != state[key].shape]
    complaints = (
        _format_list("missing", [_quote_with_nearest(key, extra) for key in missing]),
        _format_list("unexpected", [f"'{key}'" for key in extra]),
        _format_list(
            "other shape", [f"'{key}' {_format_shape(state[key])}, model {_format_shape(wanted[key])}" for key in other]
        ),
    )
    mismatches = "; ".join(filter(None, complaints))
    if mismatches:
        raise ModelError(f"{path}: does not fit {source}: {mismatches}; check model.source and model.options")
    module.load_state_dict(dict(state), strict=False)
    return ("auxiliary heads left out",) if auxiliary else ()


def head_class_count(state: Mapping[str, Tensor], module: nn.Module, classes: int) -> int | None:
    """The class count of the checkpoint's head, inferred from tensors whose first axis alone differs from a module with
    `classes`; None when they do not agree."""
    wanted = module.state_dict()
    sizes = {
        state[key].shape[0]
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
        if tensor.ndim and state[key].ndim == tensor.ndim
        if tensor.shape[0] == classes and tensor.shape[1:] == state[key].shape[1:]
    }
    return sizes.pop() if len(sizes) == 1 else None


def _read_safetensors(path: Path) -> object:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: not a complete .safetensors file ({error}); copy it again") from error


def _read_torch(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's hint that TorchScript files have their own loader
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path}: loading it would run code from the file, so it is refused; "
            + CONVERSION_HINT.format(path.name, path.with_suffix(".safetensors").name)
        ) from error
    except (RuntimeError, EOFError, LookupError, ValueError, OSError) as error:
        if "TorchScript" in str(error):
            raise ModelError(
                f"{path}: a TorchScript program, which holds code; save its weights: "
                f"safetensors.torch.save_file(torch.jit.load('{path.name}').state_dict(), 'weights.safetensors')"
            ) from error
        raise ModelError(f"{path}: incomplete or damaged checkpoint file; copy it again") from error


def _unwrap(content: object, path: Path) -> tuple[StateDict, tuple[str, ...]]:
    notes: list[str] = []
    while isinstance(content, Mapping) and (wrapper := _find_wrapper(content)):
        content = content[wrapper]
        notes.append(f"'{wrapper}' unwrapped")
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        kind = type(content).__name__
        inside = f" with {', '.join(map(str, list(content)[:5]))}" if isinstance(content, Mapping) else ""
        raise ModelError(
            f"{path}: expected a state dict (tensors by name), found a {kind}{inside}; save model.state_dict()"
        )
    state = {str(key): value for key, value in content.items()}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
            notes.append(f"'{prefix}' stripped")
    return state, tuple(notes)


def _find_wrapper(content: Mapping[Any, object]) -> str | None:
    return next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)


def _quote_with_nearest(key: str, extra: list[str]) -> str:
    near = get_close_matches(key, extra, 1)
    return f"'{key}' (nearest: '{near[0]}')" if near else f"'{key}'"


def _format_list(what: str, items: list[str]) -> str:
    if not items:
        return ""
    more = f" and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""
    return f"{len(items)} {what}: {', '.join(items[:MAX_LISTED])}{more}"


def _format_shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))
