"""Wrappers around a student for training: captured features, auxiliary modules (regressors, exits), peers.

In evaluation mode a wrapper behaves as the student; in training it returns everything that the loss needs from one
forward(), as distributed training requires. Wrappers are dropped after training.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from toolchain.compress.distillation.features import LayerSide, capture_features
from toolchain.compress.training.losses import ModelOutput


class StudentOutput(NamedTuple):
    """output: the student's output; features: of the captured layers; auxiliary: the auxiliary modules' outputs."""

    output: ModelOutput
    features: tuple[Tensor, ...]
    auxiliary: tuple[Any, ...]


class StudentWithFeatures(nn.Module):
    """A student whose `layers` are captured in training. The n-th of the `auxiliary` modules receives the features of
    the n-th layer; there may be fewer modules than layers."""

    def __init__(
        self, student: nn.Module, layers: Sequence[str], auxiliary: Iterable[nn.Module] = (), side: LayerSide = "output"
    ) -> None:
        super().__init__()
        self.student, self.auxiliary = student, nn.ModuleList(auxiliary)
        self.layers, self.side = tuple(layers), side

    def forward(self, images: Tensor) -> Any:
        """Logits [N, classes] in evaluation mode, StudentOutput in training."""
        if not self.training:
            return self.student(images)
        output, features = capture_features(self.student, images, self.layers, self.side)
        auxiliary = tuple(module(maps) for module, maps in zip(self.auxiliary, features, strict=False))
        return StudentOutput(output, features, auxiliary)


class Peers(nn.Module):
    """Students that learn from each other. In evaluation mode it returns the first one's output; in training, a tuple
    of all."""

    def __init__(self, student: nn.Module, others: Iterable[nn.Module]) -> None:
        super().__init__()
        self.student, self.others = student, nn.ModuleList(others)

    def forward(self, images: Tensor) -> Any:
        if not self.training:
            return self.student(images)
        return tuple(peer(images) for peer in (self.student, *self.others))
