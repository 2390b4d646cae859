"""What a model's outputs say: which classes an image has, and with what probability.

    softmax   one class an image, that of the highest score; probabilities by softmax over all outputs
    sigmoid   one output: two classes, the second from a probability of one half on;
              several outputs: labels that do not exclude each other, each from a probability of one half on
    logits    one class an image, that of the highest score, and no probabilities

Knows arrays of scores; nothing of models, files or protocols.
"""

import unicodedata
from typing import Literal

import msgspec
import numpy as np

from toolchain.records.tensors import Array

Activation = Literal["softmax", "sigmoid", "logits"]


class OutputKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """in_graph: whether the graph itself ends in the activation, so that its outputs are probabilities already; None:
    not recorded (bundles before format 6), so each row of a softmax tells it by its sum."""

    activation: Activation = "softmax"
    in_graph: bool | None = None

    @property
    def has_probabilities(self) -> bool:
        return self.activation != "logits"

    def is_binary(self, outputs: int) -> bool:
        """Whether one output stands for two classes."""
        return self.activation == "sigmoid" and outputs == 1

    def is_multilabel(self, outputs: int) -> bool:
        """Whether the outputs are labels that do not exclude each other."""
        return self.activation == "sigmoid" and outputs > 1

    def fits(self, outputs: int, classes: int) -> bool:
        """Whether a model with so many outputs tells so many classes apart."""
        return classes == 2 if self.is_binary(outputs) else outputs == classes

    def class_values(self, scores: Array) -> Array:
        """Scores [N, outputs] -> the probability of each class, float64 [N, classes]; the scores themselves where there
        are no probabilities."""
        scores = scores.astype(np.float64)
        if self.activation == "logits":
            return scores
        if self.activation == "softmax":
            return scores if self.in_graph else self._softmax(scores)
        shares = scores if self.in_graph else 0.5 * (1 + np.tanh(scores / 2))
        return np.concatenate((1 - shares, shares), axis=1) if shares.shape[1] == 1 else shares

    def decide(self, scores: Array) -> Array:
        """Scores [N, outputs] -> the class of each image, int64 [N], or bool [N, labels] of those that it has."""
        if self.activation != "sigmoid":
            best: Array = np.argmax(scores, axis=1).astype(np.int64)
            return best
        chosen: Array = scores >= (0.5 if self.in_graph else 0.0)
        return chosen[:, 0].astype(np.int64) if chosen.shape[1] == 1 else chosen

    def grade(self, scores: Array, truth: Array) -> Array:
        """How right each image is answered, float64 [N], by `match_decisions`; 0 where a score is not finite."""
        return match_decisions(self.decide(scores), truth) * np.isfinite(scores).all(axis=1)

    def measure(self, outputs: int) -> str:
        """What the mean of `grade` is called."""
        return "F1" if self.is_multilabel(outputs) else "top-1"

    def _softmax(self, scores: Array) -> Array:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Array = powers / powers.sum(axis=1, keepdims=True)
        if self.in_graph is None:
            are_shares = (scores.min(axis=1) >= 0.0) & (abs(scores.sum(axis=1) - 1.0) < 1e-3)
            shares[are_shares] = scores[are_shares]
        return shares


SOFTMAX = OutputKind()


def match_decisions(decisions: Array, truth: Array) -> Array:
    """float64 [N]: 1 or 0 where the class [N] is the true one or not; the F1 of each image's labels [N, labels], which
    is 1 where it has none and is given none. truth: int [N], or 0 and 1 [N, labels]."""
    grades: Array
    if decisions.ndim == 1:
        grades = (decisions == truth).astype(np.float64)
        return grades
    true = as_label_table(truth, decisions.shape[1])
    both, either = (decisions & true).sum(axis=1), decisions.sum(axis=1) + true.sum(axis=1)
    grades = np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)
    return grades


def as_label_table(truth: Array, labels: int) -> Array:
    """bool [N, labels], of 0 and 1 in that shape, or of one class an image [N]."""
    table: Array = truth.astype(bool) if truth.ndim == 2 else np.eye(labels, dtype=bool)[truth]
    return table


def mean_average_precision(scores: Array, truth: Array) -> float | None:
    """The mean over labels of the average precision, 0..1, as scikit-learn's (macro); labels that no image has are left
    out. scores: [N, labels]; truth: 0 and 1 [N, labels], or one class an image [N]. None where no image has any."""
    true = as_label_table(truth, scores.shape[1])
    each = [average_precision(scores[:, at], true[:, at]) for at in range(scores.shape[1]) if true[:, at].any()]
    return float(np.mean(each)) if each else None


def average_precision(scores: Array, true: Array) -> float:
    """The sum of precisions over the thresholds, each weighted by the recall that it adds. At least one is true."""
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(true[order])
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # equal scores are one threshold
    recall = hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0.0) * hits[last] / (last + 1)))


def fold_label(name: str) -> str:
    """A class's name as it is compared: whatever its case, its accents' encoding, and what stands between its words."""
    return unicodedata.normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").strip()
