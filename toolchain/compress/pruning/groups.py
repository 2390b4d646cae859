"""Groups of channels that must be removed together (DepGraph, Fang et al. 2023, by Torch-Pruning): ranked and removed.

The ranking replaces that of the library's pruner, which rounds widths down and silently skips a layer that it would
empty. Knows nothing of options or data.
"""

import logging
import math
import re
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.dependency import index_mapping

from toolchain.errors import RecipeError
from toolchain.failures import describe_error

logger = logging.getLogger(__name__)
Scorer = Callable[[Any], Tensor | None]
Unprunable = dict[str, str]  # layers that stay whole, and why
# what a channel passes through without changing places, by the names of torch's gradients
PLAIN = re.compile(
    "(Add|Sub|Mul|Div|Addmm|T|Relu|LeakyRelu|Hardtanh|Hardswish|Hardsigmoid|Silu|Gelu|Elu|Sigmoid|Tanh|Mean|MaxPool2D"
    "|MaxPool2DWithIndices|AvgPool2D|AdaptiveAvgPool2D|NativeBatchNorm|CudnnBatchNorm|Convolution|Cat|View)Backward[0-9]*"
)


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
    with tolerant_library():
        return tp.DependencyGraph().build_dependency(module, example_inputs=image)


def is_plain(graph: tp.DependencyGraph) -> bool:
    """Whether the model is made of operations whose channels Torch-Pruning follows: none are split, shuffled, attended
    to or held by a parameter of the model's own."""
    nodes = graph.module2node.values()
    return all(isinstance(node.module, nn.Module) and PLAIN.fullmatch(node.grad_fn.name()) for node in nodes)


@contextmanager
def tolerant_library() -> Iterator[None]:
    """Torch-Pruning in the block: its warnings go to the log, and only a reshape that flattens maps channels. The
    library looks for the sizes under a name that torch gave up, so it takes every reshape for one that flattens: where
    channels are shuffled it divides by 0, or multiplies indices until it runs out of them."""
    mapped = index_mapping.update_reshape_index_mapping

    def map_reshape(graph: Any, node: Any) -> None:
        real, sizes = node.grad_fn, getattr(node.grad_fn, "_saved_self_sym_sizes", None)
        if sizes is not None:
            node.grad_fn = SimpleNamespace(_saved_self_sizes=tuple(sizes))
        try:
            with suppress(ZeroDivisionError):
                mapped(graph, node)
        finally:
            node.grad_fn = real

    index_mapping.update_reshape_index_mapping = map_reshape
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield
    finally:
        index_mapping.update_reshape_index_mapping = mapped
    for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in heard):
        logger.debug(f"Torch-Pruning: {text}")


def score_groups(
    graph: tp.DependencyGraph,
    module: nn.Module,
    protected: Collection[nn.Module],
    score: Scorer,
    residual: bool = True,
) -> tuple[list[ChannelGroup], Unprunable]:
    """Every prunable group: without an output of a `protected` layer, and with a score; and the layers on which the
    library fails. residual: include groups whose channels an addition of two branches couples."""
    names = {layer: name for name, layer in module.named_modules()}
    scored, failed = list[ChannelGroup](), Unprunable()
    visited = set(protected)
    for layer in [layer for layer in graph.module2node if isinstance(layer, nn.Conv2d | nn.Linear)]:
        if layer in visited:
            continue
        try:
            group = _whole_group(graph, layer)
            producers = _producers(graph, group)
            visited |= producers
            if producers & set(protected):
                continue
            scores = score(group) if residual or not _joins_branches(group) else None
        except Exception as error:  # whatever the library's index arithmetic raises on a graph that it misreads
            failed[names[layer]] = describe_error(error)
            continue
        if scores is not None:
            repeat = _part_count(group)
            averaged = scores.detach().cpu().view(repeat, -1).mean(0).nan_to_num(0.0)  # a dead layer: 0 / 0
            scored.append(ChannelGroup(names[layer], averaged, repeat, layer, group[0].dep.handler))
    return scored, failed


def _whole_group(graph: tp.DependencyGraph, layer: nn.Module) -> Any:
    """All that depends on any output channel of `layer`."""
    pruner = graph.get_pruner_of_module(layer)
    return graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(pruner.get_out_channels(layer))))


def _producers(graph: tp.DependencyGraph, group: Any) -> set[Any]:
    """The layers whose outputs are the group's channels."""
    return {dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)}


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
    if indices := channels_below(group, keep):
        graph.get_pruning_group(group.layer, group.handler, indices).prune()


def channels_below(group: ChannelGroup, keep: int) -> list[int]:
    """The channels of the group's first layer that are not among the `keep` best of each part."""
    worst = group.scores.argsort(stable=True)[: group.width - keep].sort().values
    return [int(index) + part * group.width for part in range(group.repeat) for index in worst]


def prune_groups(module: nn.Module, image: Tensor, groups: Sequence[ChannelGroup], widths: Sequence[int]) -> nn.Module:
    """A copy of `module` in which each group keeps its best `widths` channels (of each part)."""
    pruned = deepcopy(module)
    graph = build_dependency_graph(pruned, image)
    with tolerant_library():
        for group, width in zip(groups, widths, strict=True):
            remove_channels(graph, replace(group, layer=pruned.get_submodule(group.name)), width)
    return pruned
