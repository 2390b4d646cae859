"""A student with parts that are trained beside it and dropped after: regressors, exits.

Knows nothing of losses. In evaluation mode it is the student; in training it also gives what was seen inside, all from
one forward(), as distributed training needs it.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from toolchain.compress.distillation.features import LayerSide, capture_features
from toolchain.compress.training.losses import ModelOutput


class StudentOutput(NamedTuple):
    """answers: the student's; inner: what the watched layers gave; beside: what the added parts made of it."""

    output: ModelOutput
    features: tuple[Tensor, ...]
    auxiliary: tuple[Any, ...]


class StudentWithFeatures(nn.Module):
    """beside: parts of which the first is handed what the first of `layers` gave, and so on; there may be fewer."""

    def __init__(
        self, student: nn.Module, layers: Sequence[str], auxiliary: Iterable[nn.Module] = (), side: LayerSide = "output"
    ) -> None:
        super().__init__()
        self.student, self.auxiliary = student, nn.ModuleList(auxiliary)
        self.layers, self.side = tuple(layers), side

    def forward(self, images: Tensor) -> Any:
        """Logits [N, classes] in evaluation mode, Seen in training."""
        if not self.training:
            return self.student(images)
        answers, inner = capture_features(self.student, images, self.layers, self.side)
        made = tuple(part(one) for part, one in zip(self.auxiliary, inner, strict=False))
        return StudentOutput(answers, inner, made)


class Peers(nn.Module):
    """Students that learn side by side. In evaluation mode it is the first; in training, the answers of all."""

    def __init__(self, student: nn.Module, others: Iterable[nn.Module]) -> None:
        super().__init__()
        self.student, self.others = student, nn.ModuleList(others)

    def forward(self, images: Tensor) -> Any:
        if not self.training:
            return self.student(images)
        return tuple(peer(images) for peer in (self.student, *self.others))
