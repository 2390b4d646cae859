"""Average precision of labels that do not exclude each other: how well their scores rank the images. Pure."""

import numpy as np

from toolchain.records.tensors import Array


def mean_average_precision(scores: Array, truth: Array) -> float | None:
    """The mean over labels of the average precision, 0..1, as scikit-learn's (macro); labels that no image has are left
    out. scores: [N, labels]; truth: 0 and 1 [N, labels], or one class an image [N]. None where no image has any."""
    true = truth.astype(bool) if truth.ndim == 2 else np.eye(scores.shape[1], dtype=bool)[truth]
    each = [average_precision(scores[:, at], true[:, at]) for at in range(scores.shape[1]) if true[:, at].any()]
    return float(np.mean(each)) if each else None


def average_precision(scores: Array, true: Array) -> float:
    """The sum of precisions over the thresholds, each weighted by the recall that it adds. At least one is true."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(true[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal scores are one threshold
    recall = hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits[last] / (last + 1)))
