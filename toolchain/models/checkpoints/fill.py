"""Copies tensors into a module by their names, and says which do not fit.

Knows neither where the module came from nor what file the tensors were in.
"""

from collections import OrderedDict
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import torch
from torch import Tensor, nn

from toolchain.errors import ModelError

AUXILIARY_PREFIXES = ("AuxLogits.", "aux1.", "aux2.")  # of Inception-v3 and GoogLeNet, used in training only
MAX_LISTED = 3
StateDict = dict[str, Tensor]


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
    module.load_state_dict(_with_versions(state, wanted), strict=False)
    return ("auxiliary heads left out",) if auxiliary else ()


def _with_versions(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """`state` with the versions of layers that torch keeps beside `own`: MNASNet refuses weights without."""
    versioned = OrderedDict(state)
    vars(versioned)["_metadata"] = getattr(own, "_metadata", {})
    return versioned


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
