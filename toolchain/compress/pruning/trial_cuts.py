"""Which channel groups can be removed from a model at all, found by trying: the pruned model must run, and must compute
what the whole one computes when nothing reads the removed channels.

Torch-Pruning misreads some graphs (channels that are shuffled, heads of attention, a fixed reshape): it raises, leaves
a model that does not run, or takes away other channels than it says. Knows nothing of scores or targets.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
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
        trial = _Trial(deepcopy(module), image, widths)
        reasons = {group.name: trial.find_failure(group) for group in groups}
        kept = _grow([], [group for group in groups if not reasons[group.name]], trial, failed)
    return kept, {name: reason for name, reason in reasons.items() if reason} | failed


def _trial_width(group: ChannelGroup, ratio: float, round_to: int) -> int:
    """At least one unit less, wherever a ratio can take any away."""
    unit = math.lcm(round_to, group.repeat) // group.repeat
    width = rounded_width(group, min(int(group.width * ratio), group.width - 1), round_to)
    return width if width < group.width or width <= unit else max(unit, group.width - unit)


def _grow(
    kept: list[ChannelGroup], more: list[ChannelGroup], trial: "_Trial", failed: Unprunable
) -> list[ChannelGroup]:
    """`kept`, which work together, and those of `more` that work with them; the others into `failed`."""
    reason = trial.find_failure_of_all([*kept, *more]) if more else ""
    if not reason:
        return [*kept, *more]
    if len(more) == 1:
        failed[more[0].name] = reason
        return kept
    middle = len(more) // 2
    return _grow(_grow(kept, more[:middle], trial, failed), more[middle:], trial, failed)


class _Trial:
    """A model of one's own, its graph, and what it answers to a random image. widths: of each group when tried."""

    def __init__(self, module: nn.Module, image: Tensor, widths: dict[str, int]) -> None:
        self.module, self.widths = module, widths
        self.image = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image.device)
        self.graph = build_dependency_graph(module, image)
        self.expected = _answer(module, self.image)

    def find_failure(self, group: ChannelGroup) -> str:
        """Why the group alone cannot be pruned; '' where it can. The model is pruned in place, and restored: a copy and
        a new graph for each of a hundred groups would take minutes."""
        if not (indices := channels_below(group, self.widths[group.name])):
            return ""
        try:
            with tolerant_library():
                members = self.graph.get_pruning_group(self.module.get_submodule(group.name), group.handler, indices)
            layers = [(dep.target.module, dep.handler, list(places)) for dep, places in members]
            if any(isinstance(layer, nn.Parameter) for layer, _, _ in layers):
                return self.find_failure_of_all([group])  # the library cannot put a parameter back
            with _restored([layer for layer, _, _ in layers]):
                members.prune()
                answer = _answer(self.module, self.image)
            if answer.shape != self.expected.shape:
                return f"it then returns {list(answer.shape)} instead of {list(self.expected.shape)}"
            if not all(isinstance(layer, CHANNEL_WISE) or not _has_parameters(layer) for layer, _, _ in layers):
                return ""
            readers = [(layer, places) for layer, handler, places in layers if _reads(self.graph, layer, handler)]
            with _restored([layer for layer, _ in readers]):
                for reader, places in readers:
                    _mask_inputs(reader, places)
                masked = _answer(self.module, self.image)
        except Exception as error:  # whatever the library, or the model in its new shape, raises
            return describe_error(error)
        effect, difference = (float((masked - other).abs().max()) for other in (self.expected, answer))
        allowed = MISMATCH * effect + ROUNDING * float(self.expected.abs().max())
        return "" if difference <= allowed else "other channels than the least important would go"

    def find_failure_of_all(self, groups: Sequence[ChannelGroup]) -> str:
        """Why these groups cannot be pruned together; '' where they can."""
        widths = [self.widths[group.name] for group in groups]
        try:
            answer = _answer(prune_groups(self.module, self.image, groups, widths), self.image)
        except Exception as error:  # as above
            return describe_error(error)
        changed = answer.shape != self.expected.shape
        return f"it then returns {list(answer.shape)} instead of {list(self.expected.shape)}" if changed else ""


@contextmanager
def _restored(layers: Sequence[nn.Module]) -> Iterator[None]:
    """What the block changes in these layers, their sizes and tensors, is as before it afterwards."""
    parts = [part for layer in layers for part in layer.modules()]
    before = [{name: _copy_container(value) for name, value in vars(part).items()} for part in parts]
    try:
        yield
    finally:
        for part, values in zip(parts, before, strict=True):
            part.__dict__.clear()
            part.__dict__.update(values)


def _copy_container(value: object) -> object:
    return copy(value) if isinstance(value, dict | list) else value


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
    masked = weight.clone()
    for channel in channels:
        part, column = divmod(channel, width)
        masked[part * rows : (part + 1) * rows, column] = 0
    layer.weight = nn.Parameter(masked)


def _answer(module: nn.Module, image: Tensor) -> Tensor:
    with evaluation_mode(module), torch.no_grad():
        answer: Tensor = module(image)
    return answer
