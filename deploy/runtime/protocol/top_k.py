"""The best classes of each image, with labels and probabilities: `top_k` in every answer to an image, whatever carried
it. Pure functions.

Over HTTP a list for each image; over gRPC the same list as JSON, in the reply's parameter of that name.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from toolchain.records.tensors import Array

NAME = "top_k"


class TopClass(msgspec.Struct, frozen=True):
    """label: empty where the model has none for that index; probability: 0 to 1."""

    label: str
    index: int
    probability: float


def top_k(scores: Array, count: int, labels: Sequence[str]) -> list[list[TopClass]]:
    """The `count` best classes of each row of scores [N, ...], the best first."""
    return [_top_classes(row, count, labels) for row in scores.reshape(scores.shape[0], -1)]


def _top_classes(scores: Array, count: int, labels: Sequence[str]) -> list[TopClass]:
    shares = probabilities(scores)
    return [
        TopClass(label_at(index, labels), index, round(float(shares[index]), 6)) for index in top_indices(scores, count)
    ]


def top_indices(scores: Array, count: int) -> list[int]:
    """Indices of the `count` highest scores of a row, highest first; of equal scores the first."""
    return [int(index) for index in np.argsort(-scores.astype(np.float64), kind="stable")[:count]]


def probabilities(scores: Array) -> Array:
    """Softmax of a row of logits; a row without negatives that sums to one is returned as probabilities."""
    scores = scores.astype(np.float64)
    if scores.min() >= 0.0 and abs(scores.sum() - 1.0) < 1e-3:
        return scores
    powers = np.exp(scores - scores.max())
    shares: Array = powers / powers.sum()
    return shares


def label_at(index: int, labels: Sequence[str]) -> str:
    return labels[index] if index < len(labels) else ""
