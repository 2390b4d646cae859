"""A model tried on labelled images under one preprocessing after another: how many are right, and how well the images
fit what its BatchNorm layers saw in training.

Knows nothing of what is tried (normalizations.py, sizes.py) and decides nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from toolchain.init.images import InitImages
from toolchain.models import LoadedModel
from toolchain.models.eval_mode import evaluation_mode, temporary_hooks
from toolchain.models.onnx_file.runner import iterate_scores
from toolchain.models.preprocessing import normalize_images
from toolchain.records.output import match_decisions
from toolchain.records.tensors import Array, Preprocessing

BATCH_PIXELS = 1 << 20
NOISE = 2.0  # standard errors of the difference between two answers to the same images
SMALLEST_SHARE = 1e-12
FURTHEST = 20.0  # of one channel, so that one that never fired does not outweigh all others


@dataclass(frozen=True)
class TrialResult:
    """right: which images; divergence: how far the inputs of the first BatchNorm layer are from what it recorded, None
    where there is none; loss: cross-entropy of the true classes, None where the outputs are other classes."""

    preprocessing: Preprocessing
    right: NDArray[np.bool_]
    divergence: float | None
    loss: float | None
    scores: Array

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def can_be_beaten(self) -> bool:
        """Whether any other could be clearly better."""
        wrong = int((~self.right).sum())
        return wrong > NOISE * max(1.0, sqrt(wrong))

    def is_clearly_below(self, other: "TrialResult") -> bool:
        """More so than chance would have it (McNemar 1947)."""
        lost, won = int((other.right & ~self.right).sum()), int((self.right & ~other.right).sum())
        return lost - won > NOISE * max(1.0, sqrt(lost + won))


@dataclass(frozen=True)
class ImageTrial:
    """loaded.head_fits: else its outputs are other classes, and an image is right where the image whose outputs are
    nearest has its label."""

    loaded: LoadedModel
    images: InitImages

    def run(self, preprocessing: Preprocessing, count: int) -> TrialResult:
        """On the first `count` images."""
        pixels, labels = self.images.fit_pixels(preprocessing, count), self.images.labels[:count]
        divergence = None
        if self.loaded.onnx is not None:
            scores: Array = np.concatenate(list(iterate_scores(self.loaded.onnx, preprocessing, pixels)))
        else:
            scores, divergence = _torch_scores(self.loaded.require_module(), pixels, preprocessing)
        finite = np.nan_to_num(scores, nan=0.0, posinf=0.0, neginf=0.0)
        loss = None
        if self.loaded.head_fits:
            right = match_decisions(self.loaded.output.decide(finite), labels) > 0.5
            loss = self._measure_loss(finite, labels)
        else:
            right = _nearest_labels(finite, labels) == labels
        return TrialResult(preprocessing, right & np.isfinite(scores).all(1), divergence, loss, finite)

    def _measure_loss(self, scores: Array, labels: Array) -> float | None:
        output = self.loaded.output
        if not output.has_probabilities or output.is_multilabel(scores.shape[1]):
            return None
        shares = output.class_values(scores)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(shares, SMALLEST_SHARE)).mean())


def _torch_scores(module: nn.Module, pixels: Array, preprocessing: Preprocessing) -> tuple[Array, float | None]:
    size = max(2, BATCH_PIXELS // (preprocessing.height * preprocessing.width))
    with evaluation_mode(module), torch.inference_mode(), _batch_norm_distances(module) as distances:
        scores = [
            module(normalize_images(torch.from_numpy(pixels[at : at + size]), preprocessing)).float().numpy()
            for at in range(0, len(pixels), size)
        ]
    first = next(iter(distances.values()), None)  # later ones also show how the weights changed after they recorded
    return np.concatenate(scores), float(np.mean(first)) if first else None


@contextmanager
def _batch_norm_distances(module: nn.Module) -> Iterator[dict[nn.Module, list[float]]]:
    """Collects, for each BatchNorm layer in the order in which they run, and each batch, the mean over channels of the
    divergence between what comes in and what was recorded in training, both taken as normal distributions."""
    distances: dict[nn.Module, list[float]] = {}

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.BatchNorm2d)
        if layer.running_mean is None or layer.running_var is None or inputs[0].shape[0] < 2:
            return
        variance = layer.running_var + layer.eps
        spread = (inputs[0].var((0, 2, 3)) + layer.eps) / variance
        offset = (inputs[0].mean((0, 2, 3)) - layer.running_mean) ** 2 / variance
        each = ((offset + spread - 1 - spread.log()) / 2).nan_to_num(FURTHEST).clamp(max=FURTHEST)
        distances.setdefault(layer, []).append(float(each.mean()))

    layers = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)]
    with temporary_hooks([layer.register_forward_pre_hook(measure) for layer in layers]):
        yield distances


def _nearest_labels(scores: Array, labels: Array) -> Array:
    """The label of the other image whose outputs point into the most similar direction."""
    centred = scores - scores.mean(0)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    similar = unit @ unit.T
    np.fill_diagonal(similar, -np.inf)
    found: Array = labels[similar.argmax(1)]
    return found
