"""The best classes of each image, with labels and probabilities: `top_k` in every answer to an image, whatever carried
it. Pure functions.

Over HTTP a list for each image; over gRPC the same list as JSON, in the reply's parameter of that name.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Array

NAME = "top_k"


class TopClass(msgspec.Struct, frozen=True):
    """label: empty where the model has none for that index; probability: 0 to 1, absent where the model's outputs are
    bare scores; score: the output itself there."""

    label: str
    index: int
    probability: float | msgspec.UnsetType = msgspec.UNSET
    score: float | msgspec.UnsetType = msgspec.UNSET


def top_k(scores: Array, count: int, labels: Sequence[str], kind: OutputKind = SOFTMAX) -> list[list[TopClass]]:
    """The `count` best classes of each row of scores [N, ...], the best first."""
    values = kind.class_values(scores.reshape(scores.shape[0], -1))
    key = "probability" if kind.has_probabilities else "score"
    return [
        [
            TopClass(label_at(index, labels), index, **{key: round(float(row[index]), 6)})
            for index in top_indices(row, count)
        ]
        for row in values
    ]


def top_indices(scores: Array, count: int) -> list[int]:
    """Indices of the `count` highest scores of a row, highest first; of equal scores the first."""
    return [int(index) for index in np.argsort(-scores.astype(np.float64), kind="stable")[:count]]


def label_at(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else ""
