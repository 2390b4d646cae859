"""A net drawn as coupled groups, the widths that a ratio leaves of them, and the net cut to those widths.

Knows nothing of recipes' options beyond what ranks and rounds; scores nothing itself (importance.py).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from toolchain.compress.pruning.groups import (
    ChannelGroup,
    Scorer,
    build_dependency_graph,
    channels_to_remove,
    prune_groups,
    rounded_width,
    score_groups,
)
from toolchain.compress.training.head import AUXILIARY_HEADS
from toolchain.models.eval_mode import evaluation_mode

Widths = tuple[int, ...]


@dataclass(frozen=True)
class PruningGraph:
    """A net in its coupled groups, scored. initial: each group's width before the first cut; picture: to trace with;
    together: groups are ranked as one; round_to: of which widths are multiples."""

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
        """What each group keeps when `ratio` of the initial channels is gone; RecipeError when one would be emptied."""
        counts = channels_to_remove(self.groups, self.initial_widths, ratio, self.global_ranking)
        return tuple(
            rounded_width(group, count, self.round_to) for group, count in zip(self.groups, counts, strict=True)
        )

    def prune_to(self, widths: Widths) -> nn.Module:
        """A copy of the net, so narrow."""
        with evaluation_mode(self.module):
            return prune_groups(self.module, self.image, self.groups, widths)


def trace_groups(
    module: nn.Module,
    image: Tensor,
    protected: Collection[nn.Module],
    scorer: Scorer,
    residual: bool,
) -> list[ChannelGroup]:
    """The groups of `module` that may be cut (groups.coupled); it must learn all its parameters to be traced."""
    with evaluation_mode(module):
        return score_groups(build_dependency_graph(module, image), module, protected, scorer, residual)


def drop_auxiliary_heads(module: nn.Module) -> nn.Module:
    """Auxiliary classifiers only train: pruning drops them, since they do not run where the layers are traced."""
    for name in {one.partition(".")[0] for one in AUXILIARY_HEADS}:
        if isinstance(getattr(module, name, None), nn.Module):
            setattr(module, name, None)
    if hasattr(module, "aux_logits"):
        setattr(module, "aux_logits", False)  # noqa: B010  # torch types every attribute as a Tensor or Module
    return module
