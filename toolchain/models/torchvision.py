"""torchvision's networks and official weights, by name.

Knows how torchvision builds and names things; knows nothing of local checkpoints. torchvision verifies each download's
hash and keeps it in $TORCH_HOME.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn
from torchvision import models

from toolchain.errors import ModelError

NETWORKS_WITH_AUXILIARY_HEADS = ("inception_v3", "googlenet")  # used in training only


def random_network(name: str, classes: int, options: Mapping[str, Any]) -> nn.Module:
    """`name` with random weights from torch's current generator, `classes` logits and no auxiliary heads."""
    second = {"aux_logits": False, "init_weights": False} if check_name(name) in NETWORKS_WITH_AUXILIARY_HEADS else {}
    return _build(name, {"weights": None, "num_classes": classes, **second, **options})


def official_network(name: str, weights: str, options: Mapping[str, Any]) -> nn.Module:
    """`name` with torchvision's own weights, in evaluation mode: the newest ones, or the enum member that `weights`
    names."""
    entry = _weights_entry(name, weights)
    try:
        module = _build(name, {"weights": entry, **options})
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"torchvision:{name}: the official weights could not be downloaded from {entry.url} ({error}); download "
            'that file on a machine with network access and name it: model.weights = "path/to/file.pth"'
        ) from error
    module.eval()
    return _drop_auxiliary_heads(name, module)


def official_labels(name: str, weights: str) -> tuple[str, ...]:
    """The class names that the official weights were trained on."""
    return tuple(_weights_entry(name, weights).meta["categories"])


def check_name(name: str) -> str:
    """`name`; ModelError with the nearest names where torchvision has no such classifier."""
    known = models.list_models(module=models)
    if name not in known:
        near = ", ".join(get_close_matches(name, known, 3)) or "https://docs.pytorch.org/vision/stable/models.html"
        raise ModelError(f"torchvision has no classifier '{name}'; the nearest are: {near}")
    return name


def _weights_entry(name: str, weights: str) -> models.WeightsEnum:
    entries = models.get_model_weights(check_name(name))
    wanted = "DEFAULT" if weights == "official" else weights
    if wanted not in entries.__members__:
        known = ", ".join(member for member in entries.__members__ if member != "DEFAULT")
        raise ModelError(f"torchvision:{name}: no official weights '{weights}'; there are: official, {known}")
    entry: models.WeightsEnum = entries[wanted]
    return entry


def _build(name: str, arguments: dict[str, Any]) -> nn.Module:
    try:
        module: nn.Module = models.get_model(check_name(name), **arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"torchvision:{name}: model.options do not fit: {error}") from error
    return module


def _drop_auxiliary_heads(name: str, module: nn.Module) -> nn.Module:
    if name in NETWORKS_WITH_AUXILIARY_HEADS:
        for attribute in ("AuxLogits", "aux1", "aux2"):
            if hasattr(module, attribute):
                setattr(module, attribute, None)
        module.aux_logits = False  # type: ignore[assignment]  # a plain bool of torchvision's classes
    return module
