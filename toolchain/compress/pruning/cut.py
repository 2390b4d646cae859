"""A model as scored channel groups, the widths that a pruning ratio leaves, and the model pruned to those widths.

Scores come from importance.py.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from toolchain.compress.pruning.groups import (
    ChannelGroup,
    Scorer,
    Unprunable,
    build_dependency_graph,
    channels_to_remove,
    is_plain,
    prune_groups,
    rounded_width,
    score_groups,
    tolerant_library,
)
from toolchain.compress.training.head import AUXILIARY_HEADS
from toolchain.models.eval_mode import evaluation_mode

Widths = tuple[int, ...]


class TracedGroups(NamedTuple):
    """failed: layers on which Torch-Pruning fails, and why; is_plain: it follows every channel of this model."""

    groups: list[ChannelGroup]
    failed: Unprunable
    is_plain: bool


@dataclass(frozen=True)
class PruningGraph:
    """A model and its scored channel groups. initial_widths: each group's width before the first cut; image: the input
    to trace with; global_ranking: channels are ranked over all groups together; round_to: widths become multiples of
    it."""

    module: nn.Module
    groups: Sequence[ChannelGroup]
    initial_widths: Mapping[str, int]
    image: Tensor
    global_ranking: bool
    round_to: int

    @property
    def widths(self) -> Widths:
        return tuple(group.width for group in self.groups)

    def widths_at(self, ratio: float) -> Widths:
        """Each group's width after removing `ratio` of the initial channels; RecipeError when one would be emptied."""
        counts = channels_to_remove(self.groups, self.initial_widths, ratio, self.global_ranking)
        return tuple(
            rounded_width(group, count, self.round_to) for group, count in zip(self.groups, counts, strict=True)
        )

    def prune_to(self, widths: Widths) -> nn.Module:
        """A copy of the model, pruned to `widths`."""
        with evaluation_mode(self.module):
            return prune_groups(self.module, self.image, self.groups, widths)


def trace_groups(
    module: nn.Module,
    image: Tensor,
    protected: Collection[nn.Module],
    scorer: Scorer,
    residual: bool,
) -> TracedGroups:
    """The prunable channel groups of `module` (groups.score_groups); tracing needs gradients for all its parameters."""
    with evaluation_mode(module):
        graph = build_dependency_graph(module, image)
        with tolerant_library():
            groups, failed = score_groups(graph, module, protected, scorer, residual)
        return TracedGroups(groups, failed, is_plain(graph))


def drop_auxiliary_heads(module: nn.Module) -> nn.Module:
    """Remove auxiliary classifiers: they serve only training, and do not run when the layers are traced."""
    for name in {head.partition(".")[0] for head in AUXILIARY_HEADS}:
        if isinstance(getattr(module, name, None), nn.Module):
            setattr(module, name, None)
    if hasattr(module, "aux_logits"):
        setattr(module, "aux_logits", False)  # noqa: B010  # torch types every attribute as a Tensor or Module
    return module
