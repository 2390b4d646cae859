"""A net drawn as coupled groups, the widths that a ratio leaves of them, and the net cut to those widths.

Knows nothing of recipes' options beyond what ranks and rounds; scores nothing itself (importance.py).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from toolchain.compress.pruning.groups import Coupled, Scorer, coupled, graph_of, narrowed, removals, rounded
from toolchain.compress.training.head import AUXILIARY
from toolchain.models.eval_mode import evaluating

Widths = tuple[int, ...]


@dataclass(frozen=True)
class Drawing:
    """A net in its coupled groups, scored. initial: each group's width before the first cut; picture: to trace with;
    together: groups are ranked as one; round_to: of which widths are multiples."""

    module: nn.Module
    groups: Sequence[Coupled]
    initial: Mapping[str, int]
    picture: Tensor
    together: bool
    round_to: int

    @property
    def widths(self) -> Widths:
        return tuple(group.width for group in self.groups)

    def widths_at(self, ratio: float) -> Widths:
        """What each group keeps when `ratio` of the initial channels is gone; RecipeError when one would be emptied."""
        counts = removals(self.groups, self.initial, ratio, self.together)
        return tuple(rounded(group, count, self.round_to) for group, count in zip(self.groups, counts, strict=True))

    def cut(self, widths: Widths) -> nn.Module:
        """A copy of the net, so narrow."""
        with evaluating(self.module):
            return narrowed(self.module, self.picture, self.groups, widths)


def drawn(
    module: nn.Module,
    picture: Tensor,
    kept: Collection[nn.Module],
    scorer: Scorer,
    residual: bool,
) -> list[Coupled]:
    """The groups of `module` that may be cut (groups.coupled); it must learn all its parameters to be traced."""
    with evaluating(module):
        return coupled(graph_of(module, picture), module, kept, scorer, residual)


def without_auxiliary(module: nn.Module) -> nn.Module:
    """Auxiliary classifiers only train: pruning drops them, since they do not run where the layers are traced."""
    for name in {one.partition(".")[0] for one in AUXILIARY}:
        if isinstance(getattr(module, name, None), nn.Module):
            setattr(module, name, None)
    if hasattr(module, "aux_logits"):
        setattr(module, "aux_logits", False)  # noqa: B010  # torch types every attribute as a Tensor or Module
    return module
