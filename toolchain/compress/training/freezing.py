"""Which layers are trained: name patterns, frozen layers with their BatchNorm statistics, and learning rates per layer.

Knows nothing of losses, and of epochs only what an unfreeze schedule names.
"""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolchain.compress.training.head import AUXILIARY_HEADS
from toolchain.errors import RecipeError

Freeze = str | tuple[str, ...]
UnfreezeSchedule = dict[str, tuple[str, ...]]
MIN_TOP_LEVEL_STAGES = 5  # top-level children with weights: VGG and MobileNets have two, ResNets five or six


def frozen_names(module: nn.Module, freeze: Freeze, head: str) -> frozenset[str]:
    """Names of the parameters and modules that `freeze` keeps unchanged: "none", "backbone" (all but the classifier
    `head` and auxiliary heads), or patterns such as `layer1` and `features.*.conv`. RecipeError for a pattern that
    matches nothing, with the nearest names, and when nothing would be left to train."""
    parameters = [name for name, _ in module.named_parameters()]
    names = parameters + [name for name, _ in module.named_modules() if name]
    if freeze == "none":
        return frozenset()
    if isinstance(freeze, str):
        heads = (head, *AUXILIARY_HEADS)
        frozen = {
            name
            for name in names
            if not any(_is_within(name, classifier) or _is_within(classifier, name) for classifier in heads)
        }
    else:
        frozen = {name for pattern in freeze for name in match_names(pattern, names, "freeze")}
    if frozen.issuperset(parameters):
        raise RecipeError(f"freeze = {list(freeze) if isinstance(freeze, tuple) else freeze!r} leaves nothing to train")
    return frozenset(frozen)


def _is_within(name: str, above: str) -> bool:
    return name == above or name.startswith(f"{above}.")


def match_names(pattern: str, names: list[str], option: str) -> list[str]:
    """The names that `pattern` matches, and those below them; RecipeError with the nearest names if there are none."""
    matches = [name for name in names if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
    if not matches:
        near = ", ".join(get_close_matches(pattern, names, 3, 0.3)) or ", ".join(names[:3])
        raise RecipeError(f"{option}: no layer '{pattern}'; the nearest are: {near}")
    return matches


def frozen_names_by_epoch(
    module: nn.Module, frozen: frozenset[str], unfreeze: UnfreezeSchedule
) -> dict[int, frozenset[str]]:
    """The names still frozen from each epoch on, by `unfreeze` (epochs -> patterns; gradual unfreezing, Howard & Ruder
    2018). An unfrozen layer stays so. RecipeError for patterns that match nothing, or nothing that is frozen at that
    time."""
    names = [name for name, _ in module.named_parameters()] + [name for name, _ in module.named_modules() if name]
    still, frozen_by_epoch = frozen, {0: frozen}
    for epochs in sorted(unfreeze, key=int):
        for pattern in unfreeze[epochs]:
            thawed = set(match_names(pattern, names, f"unfreeze.{epochs}"))
            if not thawed & frozen:
                raise RecipeError(f"unfreeze.{epochs}: '{pattern}' is not frozen; name layers that freeze covers")
            still -= thawed
        frozen_by_epoch[int(epochs)] = still
    return frozen_by_epoch


def set_trainable(module: nn.Module, frozen: frozenset[str]) -> None:
    """Set training mode and gradients for all but `frozen`; a frozen BatchNorm keeps its statistics too."""
    module.train()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for name, layer in module.named_modules():
        if name in frozen and isinstance(layer, _BatchNorm):
            layer.eval()


def layer_stages(module: nn.Module, head: str) -> list[list[str]]:
    """The names of the backbone's parameters in stages, from the input on: its top-level children, or the elements of
    their Sequentials where there are fewer than MIN_TOP_LEVEL_STAGES (`features` and `classifier`). A child without a
    weight matrix (such as a BatchNorm) joins the stage before it. The head and auxiliary heads belong to no stage."""
    children = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
    if sum(any(parameter.ndim > 1 for parameter in child.parameters()) for _, child in children) < MIN_TOP_LEVEL_STAGES:
        inner = [
            [(f"{name}.{part}", below) for part, below in child.named_children()]
            if isinstance(child, nn.Sequential | nn.ModuleList)
            else [(name, child)]
            for name, child in children
        ]
        children = [child for group in inner for child in group]
    stages: list[list[str]] = []
    for prefix in [name for name, _ in children]:
        own = [(name, parameter) for name, parameter in module.named_parameters() if _is_within(name, prefix)]
        names = [name for name, _ in own if not any(_is_within(name, above) for above in (head, *AUXILIARY_HEADS))]
        if names and stages and not any(parameter.ndim > 1 for _, parameter in own):
            stages[-1].extend(names)
        elif names:
            stages.append(names)
    return stages


def parameter_groups(
    module: nn.Module, head: str, weight_decay: float, backbone_factor: float, layer_decay: float = 1.0
) -> list[dict[str, Any]]:
    """SGD's parameter groups, the head's last; biases and norms without weight decay (Goyal et al. 2017).

    `factor` multiplies the learning rate (Howard & Ruder 2018): 1 for the head, backbone_factor for the backbone, times
    layer_decay for each stage (layer_stages) towards the input. Parameters in no stage learn like the last stage.
    """
    stages = layer_stages(module, head) if layer_decay < 1 else []
    depth = {name: len(stages) - number for number, names in enumerate(stages) for name in names}
    default = 1 if layer_decay < 1 else 0
    groups: dict[tuple[bool, int, bool], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        in_head = any(_is_within(name, above) for above in (head, *AUXILIARY_HEADS))
        deep = 0 if in_head else depth.get(name, default)
        groups.setdefault((in_head, -deep, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": weight_decay if decays else 0.0,
            "factor": 1.0 if in_head else backbone_factor * layer_decay**-deep,
        }
        for (in_head, deep, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]
