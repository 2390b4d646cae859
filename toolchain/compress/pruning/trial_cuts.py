"""Which channel groups can be removed from a model at all, found by trying: the pruned model must run, and must compute
what the whole one computes when nothing reads the removed channels.

Torch-Pruning misreads some graphs (channels that are shuffled, heads of attention, a fixed reshape): it raises, leaves
a model that does not run, or takes away other channels than it says. Knows nothing of scores or targets.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from toolchain.compress.pruning.groups import (
    ChannelGroup,
    Unprunable,
    build_dependency_graph,
    channels_below,
    prune_groups,
    rounded_width,
    tolerant_library,
)
from toolchain.failures import describe_error
from toolchain.models.eval_mode import evaluation_mode

MISMATCH = 0.01  # of what the removed channels contribute
ROUNDING = 1e-4  # of the largest output; what contributes less is not looked at, as in an untrained model
# what normalizes over channels, or mixes them in a way of its own, computes something else with fewer of them
CHANNEL_WISE = (nn.Conv2d, nn.Linear, _BatchNorm, nn.PReLU)


def split_workable(
    module: nn.Module, image: Tensor, groups: Sequence[ChannelGroup], ratio: float, round_to: int
) -> tuple[list[ChannelGroup], Unprunable]:
    """The groups of which about `ratio` can be removed, all together, and why not of the others. image: float32 [1, C,
    H, W], for its shape and device."""
    widths = {group.name: _trial_width(group, ratio, round_to) for group in groups}
    failed = Unprunable()
    with evaluation_mode(module):
        kept = _grow([], list(groups), _Trial(module, image, widths), failed)
    return kept, failed


def _trial_width(group: ChannelGroup, ratio: float, round_to: int) -> int:
    """At least one unit less, wherever a ratio can take any away."""
    unit = math.lcm(round_to, group.repeat) // group.repeat
    width = rounded_width(group, min(int(group.width * ratio), group.width - 1), round_to)
    return width if width < group.width or width <= unit else max(unit, group.width - unit)


def _grow(
    kept: list[ChannelGroup], more: list[ChannelGroup], trial: "_Trial", failed: Unprunable
) -> list[ChannelGroup]:
    """`kept`, which work together, and those of `more` that work with them; the others into `failed`."""
    reason = trial.find_failure([*kept, *more]) if more else ""
    if not reason:
        return [*kept, *more]
    if len(more) == 1:
        failed[more[0].name] = reason
        return kept
    middle = len(more) // 2
    return _grow(_grow(kept, more[:middle], trial, failed), more[middle:], trial, failed)


class _Trial:
    """A model and what it answers to a random image. widths: of each group when tried."""

    def __init__(self, module: nn.Module, image: Tensor, widths: dict[str, int]) -> None:
        self.module, self.widths = module, widths
        self.image = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image.device)
        self.expected = _answer(module, self.image)

    def find_failure(self, groups: Sequence[ChannelGroup]) -> str:
        """Why these groups cannot be pruned together; '' where they can."""
        try:
            answer = _answer(self._prune(groups), self.image)
            if answer.shape != self.expected.shape:
                return f"it then returns {list(answer.shape)} instead of {list(self.expected.shape)}"
            masked, exact = self._mask(groups)
            if len(exact) < len(groups):
                answer = _answer(self._prune(exact), self.image)
        except Exception as error:  # whatever the library, or the model in its new shape, raises
            return describe_error(error)
        effect, difference = (float((masked - other).abs().max()) for other in (self.expected, answer))
        allowed = MISMATCH * effect + ROUNDING * float(self.expected.abs().max())
        return "" if difference <= allowed else "other channels than the least important would go"

    def _prune(self, groups: Sequence[ChannelGroup]) -> nn.Module:
        return prune_groups(self.module, self.image, groups, [self.widths[group.name] for group in groups])

    def _mask(self, groups: Sequence[ChannelGroup]) -> tuple[Tensor, list[ChannelGroup]]:
        """The answer of the whole model when nothing reads the channels that would go, and the groups for which that is
        what pruning them means."""
        masked = deepcopy(self.module)
        graph = build_dependency_graph(masked, self.image)
        exact, readers = list[ChannelGroup](), list[tuple[nn.Module, list[int]]]()
        with tolerant_library():
            for group in groups:
                members = self._members(graph, masked.get_submodule(group.name), group)
                if all(isinstance(module, CHANNEL_WISE) or not _has_parameters(module) for module, _, _ in members):
                    exact.append(group)
                    readers += [
                        (module, places) for module, handler, places in members if _reads(graph, module, handler)
                    ]
        for reader, places in readers:
            _mask_inputs(reader, places)
        return _answer(masked, self.image), exact

    def _members(self, graph: Any, layer: nn.Module, group: ChannelGroup) -> list[tuple[Any, Any, list[int]]]:
        """What loses channels with the group: each module, how, and which of its channels."""
        if not (indices := channels_below(group, self.widths[group.name])):
            return []
        return [
            (dep.target.module, dep.handler, list(places))
            for dep, places in graph.get_pruning_group(layer, group.handler, indices)
        ]


def _has_parameters(module: object) -> bool:
    if isinstance(module, nn.Module):
        return any(True for _ in module.parameters())
    return isinstance(module, nn.Parameter)


def _reads(graph: Any, module: object, handler: object) -> bool:
    """Whether the channels are inputs of a convolution or linear layer that mixes them."""
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return False
    pruner = graph.get_pruner_of_module(module)
    return bool(handler == pruner.prune_in_channels and pruner.prune_in_channels != pruner.prune_out_channels)


@torch.no_grad()
def _mask_inputs(layer: nn.Module, channels: Sequence[int]) -> None:
    """Make `layer` (a Conv2d or Linear) ignore these input channels."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    width, parts = weight.shape[1], getattr(layer, "groups", 1)
    rows = weight.shape[0] // parts
    for channel in channels:
        part, column = divmod(channel, width)
        weight[part * rows : (part + 1) * rows, column] = 0


def _answer(module: nn.Module, image: Tensor) -> Tensor:
    with evaluation_mode(module), torch.no_grad():
        answer: Tensor = module(image)
    return answer
