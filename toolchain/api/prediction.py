"""`toolchain.Prediction`: what a server says of one image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Prediction:
    """A server's answer to one image.

    Attributes:
        label: the best class's name; its number where the model has no names
        index: its place among the outputs
        probability: its probability, 0 to 1; None where the model gives bare scores
        probabilities: of each class by its name, the best first; empty where the model gives bare scores
        scores: the model's outputs as they are, float32 [outputs]

    Example:
        >>> found = client.predict(picture)
        >>> found.label, found.index, found.probability == found.probabilities["angle_000"]
        ('angle_000', 0, True)
    """

    label: str
    index: int
    probability: float | None
    probabilities: Mapping[str, float]
    scores: NDArray[np.float32]

    def __repr__(self) -> str:
        return f"Prediction({self.label!r}{'' if self.probability is None else f', {self.probability:.4f}'})"
