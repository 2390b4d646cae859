"""Networks and official weights of torchvision, by name.

Knows how torchvision builds and names things; knows nothing of local checkpoints. torchvision checks each download's
hash and keeps it in $TORCH_HOME.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn
from torchvision import models

from toolchain.errors import ModelError

OPTIONAL_HEADS = ("inception_v3", "googlenet")  # their second heads serve training only


def unfilled(name: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """`name` with random weights from torch's current generator, `classes` logits, and no auxiliary heads."""
    second = {"aux_logits": False, "init_weights": False} if _known(name) in OPTIONAL_HEADS else {}
    return _built(name, {"weights": None, "num_classes": classes, **second, **options})


def official(name: str, weights: str, options: Mapping[str, Any]) -> nn.Module:
    """`name` with torchvision's own weights: the newest, or the enum member that `weights` names; in eval mode."""
    entry = _entry(name, weights)
    try:
        module = _built(name, {"weights": entry, **options})
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"torchvision:{name}: the official weights could not be fetched from {entry.url} ({error}); fetch "
            'that file where there is a network and name it: model.weights = "path/to/file.pth"'
        ) from error
    module.eval()
    return _without_second_heads(name, module)


def labels_of(name: str, weights: str) -> tuple[str, ...]:
    """The classes that the official weights were trained on."""
    return tuple(_entry(name, weights).meta["categories"])


def _known(name: str) -> str:
    known = models.list_models(module=models)
    if name not in known:
        near = ", ".join(get_close_matches(name, known, 3)) or "https://docs.pytorch.org/vision/stable/models.html"
        raise ModelError(f"torchvision has no classifier '{name}'; near: {near}")
    return name


def _entry(name: str, weights: str) -> models.WeightsEnum:
    found = models.get_model_weights(_known(name))
    wanted = "DEFAULT" if weights == "official" else weights
    if wanted not in found.__members__:
        there = ", ".join(member for member in found.__members__ if member != "DEFAULT")
        raise ModelError(f"torchvision:{name}: no official weights '{weights}'; there are: official, {there}")
    entry: models.WeightsEnum = found[wanted]
    return entry


def _built(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        module: nn.Module = models.get_model(_known(name), **arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"torchvision:{name}: model.options do not fit: {error}") from error
    return module


def _without_second_heads(name: str, module: nn.Module) -> nn.Module:
    if name in OPTIONAL_HEADS:
        for attribute in ("AuxLogits", "aux1", "aux2"):
            if hasattr(module, attribute):
                setattr(module, attribute, None)
        module.aux_logits = False  # type: ignore[assignment]  # a plain bool of torchvision's classes
    return module
