"""Whether the outputs are in the order that model.labels claims, where that is another than the data's.

Two orders are possible then: that of model.labels, by which the data was renumbered (data/class_names.py), and the
data's own, if model.labels is what is wrong. The images decide. Pure: decisions and the truth go in.
"""

from collections.abc import Sequence

import numpy as np

from toolchain.accuracy.chance import compare_with_chance
from toolchain.records.tensors import Array


def refuse_labels(decisions: Array, truth: Array, renumbered: Sequence[int], labels: Sequence[str]) -> str:
    """Why model.labels cannot be right, in one line; '' where it is. truth: by
    model.labels; renumbered: its number of each of the data's own numbers."""
    if decisions.ndim == 2 or truth.ndim == 2 or not renumbered:
        return ""
    own = np.argsort(np.array(renumbered))[truth]  # the same images by the data's own numbers
    by_labels, by_data = decisions == truth, decisions == own
    if by_data.sum() <= by_labels.sum() or compare_with_chance(decisions, own).is_at_chance:
        return ""
    first = next(number for number, at in enumerate(renumbered) if number != at)
    return (
        f"model.labels is in another order than the outputs: by it {by_labels.mean():.1%} of {len(truth)} test images "
        f"are right, by the order of the data's classes {by_data.mean():.1%}; output {first} is "
        f"{labels[renumbered[first]]!r} and not {labels[first]!r}: write model.labels in the order of the data's "
        "classes, or remove it"
    )
