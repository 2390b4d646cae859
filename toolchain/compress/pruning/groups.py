"""Groups of channels that must be removed together (DepGraph, Fang et al. 2023, by Torch-Pruning): ranked and removed.

The ranking replaces that of the library's pruner, which rounds widths down and silently skips a layer that it would
empty. Knows nothing of options or data.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn

from toolchain.errors import RecipeError

Scorer = Callable[[Any], Tensor | None]


@dataclass(frozen=True)
class ChannelGroup:
    """A group of coupled channels. name: the layer that the group starts from; scores: one per channel, averaged over
    `repeat` equal parts (a grouped convolution loses the same channels in each part)."""

    name: str
    scores: Tensor
    repeat: int
    layer: nn.Module
    handler: Any

    @property
    def width(self) -> int:
        return len(self.scores)


def build_dependency_graph(module: nn.Module, image: Tensor) -> tp.DependencyGraph:
    """The dependencies between the layers' channels, traced with one image in evaluation mode."""
    return tp.DependencyGraph().build_dependency(module, example_inputs=image)


def score_groups(
    graph: tp.DependencyGraph,
    module: nn.Module,
    protected: Collection[nn.Module],
    score: Scorer,
    residual: bool = True,
) -> list[ChannelGroup]:
    """Every prunable group: without an output of a `protected` layer, and with a score. residual: include groups whose
    channels an addition of two branches couples."""
    names = {layer: name for name, layer in module.named_modules()}
    scored = []
    for group in graph.get_all_groups(ignored_layers=list(protected), root_module_types=[nn.Conv2d, nn.Linear]):
        scores = score(group) if residual or not _joins_branches(group) else None
        if scores is not None:
            root, repeat = group[0].dep.target.module, _part_count(group)
            averaged = scores.detach().cpu().view(repeat, -1).mean(0).nan_to_num(0.0)  # a dead layer: 0 / 0
            scored.append(ChannelGroup(names[root], averaged, repeat, root, group[0].dep.handler))
    return scored


def _joins_branches(group: Any) -> bool:
    """Whether an addition of two branches couples the group's channels; a bias or a constant is not a branch."""
    nodes = [dependency.target for dependency, _ in group]
    return any("AddBackward" in getattr(node.module, "_grad_fn", "") and len(node.inputs) > 1 for node in nodes)


def _part_count(group: Any) -> int:
    """The number of equal parts of the group's channels; a depthwise convolution just follows its input."""
    layers = [dependency.target.module for dependency, _ in group]
    convolutions = [
        layer.groups for layer in layers if isinstance(layer, nn.Conv2d) and layer.groups != layer.out_channels
    ]
    return max([1, *convolutions, *(layer.num_groups for layer in layers if isinstance(layer, nn.GroupNorm))])


def channels_to_remove(
    groups: Sequence[ChannelGroup], initial: Mapping[str, int], ratio: float, global_ranking: bool
) -> list[int]:
    """How many channels each group should lose so that `ratio` of the initial ones are gone, ranked over all groups
    (`global_ranking`) or in each group."""
    if not global_ranking:
        return [max(0, group.width - math.ceil(initial[group.name] * (1 - ratio))) for group in groups]
    gone = sum(group.width for group in groups) - math.ceil(sum(initial.values()) * (1 - ratio))
    if gone <= 0:
        return [0] * len(groups)
    worst = torch.cat([group.scores for group in groups]).argsort(stable=True)[:gone]
    owner = torch.cat([torch.full((group.width,), number) for number, group in enumerate(groups)])
    return [int(count) for count in torch.bincount(owner[worst], minlength=len(groups))]


def rounded_width(group: ChannelGroup, removed: int, round_to: int) -> int:
    """The width to keep: the nearest multiple of `round_to` (over all parts). A layer no wider than that keeps its
    width."""
    unit = math.lcm(round_to, group.repeat) // group.repeat
    if group.width <= unit:
        return group.width
    if removed >= group.width:
        raise RecipeError(
            f"would remove all {group.width * group.repeat} channels of {group.name}; lower ratio, "
            "or set global_pruning = false"
        )
    return min(group.width, unit * max(1, math.floor((group.width - removed) / unit + 0.5)))


def remove_channels(graph: tp.DependencyGraph, group: ChannelGroup, keep: int) -> None:
    """Remove all but the `keep` best channels of each part, everywhere in the group."""
    worst = group.scores.argsort(stable=True)[: group.width - keep]
    if len(worst):
        indices = [int(index) + part * group.width for part in range(group.repeat) for index in worst.sort().values]
        graph.get_pruning_group(group.layer, group.handler, indices).prune()


def prune_groups(module: nn.Module, image: Tensor, groups: Sequence[ChannelGroup], widths: Sequence[int]) -> nn.Module:
    """A copy of `module` in which each group keeps its best `widths` channels (of each part)."""
    pruned = deepcopy(module)
    graph = build_dependency_graph(pruned, image)
    for group, width in zip(groups, widths, strict=True):
        remove_channels(graph, replace(group, layer=pruned.get_submodule(group.name)), width)
    return pruned
