"""What a build keeps for a report, of drawn images in classes whose names are hard on a page."""

from pathlib import Path

import numpy as np

from toolchain.accuracy.kept import KeptEvaluation, evaluation_folder, keep_evaluation
from toolchain.accuracy.quality import assess_quality
from toolchain.data.dataset import DataSet, Split
from toolchain.records.output import SOFTMAX, OutputKind

CLASSES = ("cat", "a class with a name that is much longer than a phone is wide", "<b>bold</b>", "costs $5 $6", "ship")


def draw_data(images: int = 60, side: int = 8, multilabel: bool = False) -> DataSet:
    draw = np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = draw.integers(0, 256, (count, side, side, 3), np.uint8)
        labels = np.arange(count) % len(CLASSES)
        if multilabel:
            labels = (draw.random((count, len(CLASSES))) < 0.4).astype(np.int64)
        return Split(pixels, labels, np.arange(count))

    counts = {"train": images, "validate": 10, "certify": 10, "test": images}
    return DataSet("drawn", CLASSES, "here", "0" * 64, {name: split(count) for name, count in counts.items()})


def draw_scores(data: DataSet, noise: float) -> np.ndarray:
    """Scores that are wrong more often the more noise there is."""
    truth = data.split("test").labels
    right = truth if truth.ndim == 2 else np.eye(len(data.classes))[truth]
    return (4 * right - 2 + np.random.default_rng(1).normal(0, noise, right.shape)).astype(np.float32)


def keep_drawn(home: Path, bundle: str, data: DataSet | None = None, output: OutputKind = SOFTMAX) -> KeptEvaluation:
    data = data or draw_data()
    truth = data.split("test").labels
    precisions = {
        name: assess_quality(draw_scores(data, noise), truth, output) for name, noise in (("fp32", 1.5), ("int8", 2.5))
    }
    return keep_evaluation(evaluation_folder(home, bundle), data, data.classes, precisions, "int8")
