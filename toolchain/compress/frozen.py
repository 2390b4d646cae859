"""Which layers learn: names matched by patterns, frozen with their BatchNorm statistics, and each one's learning rate.

Knows nothing of epochs or losses.
"""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolchain.compress.head import AUXILIARY
from toolchain.errors import RecipeError

Freeze = str | tuple[str, ...]


def frozen_names(module: nn.Module, freeze: Freeze, head: str) -> frozenset[str]:
    """The parameters and modules of `module`, by name, that `freeze` keeps as they are: "none", "backbone" (all but
    the classifier `head` and auxiliary ones), or patterns such as `layer1` and `features.*.conv`. RecipeError for a
    pattern that names nothing, with the nearest names, and when nothing would be left to learn."""
    parameters = [name for name, _ in module.named_parameters()]
    names = parameters + [name for name, _ in module.named_modules() if name]
    if freeze == "none":
        return frozenset()
    if isinstance(freeze, str):
        heads = (head, *AUXILIARY)
        frozen = {name for name in names if not any(_below(name, one) or _below(one, name) for one in heads)}
    else:
        frozen = {name for pattern in freeze for name in matching(pattern, names, "freeze")}
    if frozen.issuperset(parameters):
        raise RecipeError(f"freeze = {list(freeze) if isinstance(freeze, tuple) else freeze!r} leaves nothing to learn")
    return frozenset(frozen)


def _below(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}.")


def matching(pattern: str, names: list[str], option: str) -> list[str]:
    """The names that `pattern` means, or that lie below such a one; RecipeError with the nearest names."""
    found = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
    if not found:
        near = ", ".join(get_close_matches(pattern, names, 3, 0.3)) or ", ".join(names[:3])
        raise RecipeError(f"{option}: no layer '{pattern}'; the nearest are: {near}")
    return found


def set_learning(module: nn.Module, frozen: frozenset[str]) -> None:
    """Training mode and gradients for all but `frozen`; a frozen BatchNorm keeps its statistics too."""
    module.train()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for name, layer in module.named_modules():
        if name in frozen and isinstance(layer, _BatchNorm):
            layer.eval()


def parameter_groups(module: nn.Module, head: str, weight_decay: float, backbone_factor: float) -> list[dict[str, Any]]:
    """Four groups, the empty ones left out: backbone and head, each with and without weight decay (biases and norms:
    Goyal et al. 2017). `factor`: of the learning rate (Howard & Ruder 2018). The head's are last."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        in_head = any(_below(name, one) for one in (head, *AUXILIARY))
        groups.setdefault((in_head, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            "factor": 1.0 if in_head else backbone_factor,
        }
        for (in_head, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
