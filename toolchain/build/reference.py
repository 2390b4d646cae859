"""What every candidate is held against: the model's accuracy on the whole test split, by fp32 torch.

By ONNX Runtime where the model comes as a graph. Knows nothing of engines or candidates.
"""

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from toolchain.accuracy import explain_chance
from toolchain.accuracy.chance import compare_with_chance, describe_chance
from toolchain.accuracy.diagnosis import ScoredModel, ScoresOf
from toolchain.accuracy.label_order import refuse_labels
from toolchain.build.trained_model import Model, ModelInputs, load_staged, load_trained_model, module_key
from toolchain.compress.metrics import split_scores
from toolchain.compress.properties import is_training
from toolchain.errors import AccuracyError
from toolchain.export import ort_scores
from toolchain.job.stage import Stage
from toolchain.models import LoadedModel
from toolchain.models.check import class_count
from toolchain.records.output import OutputKind, mean_average_precision
from toolchain.records.tensors import Array, Preprocessing
from toolchain.transform.cost import TransformCost, measure_cost
from toolchain.transform.lines import input_lines
from toolchain.transform.user_transform import load_transform, transform_digests

if TYPE_CHECKING:
    from toolchain.data import Split
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

logger = logging.getLogger(__name__)

TRAINING_CURE = "train for more epochs or at another lr, or look at the labels"


class Reference(msgspec.Struct, frozen=True):
    """What the model was before anything was done to it. accuracy: fp32, share of the `images` test images; output:
    what its outputs say; chance: why it is no better than chance, '' where it is; mean_average_precision: over labels
    that do not exclude each other. after_training: it came untrained or with other classes, so the figures are those
    of the model after its last training. wrong_labels: why model.labels cannot be the order of the outputs, '' where it
    may be."""

    description: str
    labels: tuple[str, ...]
    accuracy: float | None
    images: int
    output: OutputKind
    chance: str = ""
    mean_average_precision: float | None = None
    after_training: bool = False
    wrong_labels: str = ""


def reference_as_loaded(job: "BuildJob", cache: "StageCache", inputs: ModelInputs) -> Reference:
    """The trained model as it came."""

    def make(_: Path, __: Path) -> Reference:
        loaded, test = load_trained_model(job), job.data.split("test")
        labels = loaded.labels or job.data.classes or number_classes(loaded.classes)
        reference = Reference(loaded.description, labels, None, len(test), loaded.output)
        # random weights, and a head that is still to be replaced, have no accuracy on these classes
        if not len(test) or not loaded.head_fits or job.recipe.model.weights == "random":
            return reference
        scores_of = scores_by(loaded, test)
        scores = scores_of(job.recipe.input, np.arange(len(test)))
        subject = ScoredModel(scores, test.labels, job.data.classes, loaded.output, job.recipe.input, scores_of)
        wrong = refuse_labels(loaded.output.decide(scores), test.labels, job.data.renumbered, job.data.classes)
        reference = msgspec.structs.replace(reference, wrong_labels=wrong)
        return with_accuracy(reference, scores, test, explain_chance(subject))

    title = "model: fp32 accuracy on the test split" if job.recipe.data else "model: its outputs and labels"
    return cache.run(Stage("reference", title, Reference, inputs, make)).record


def number_classes(count: int) -> tuple[str, ...]:
    """Names for classes that neither the recipe, nor the weights, nor any data names."""
    return tuple(f"class {number}" for number in range(count))


def scores_by(loaded: LoadedModel, test: "Split") -> ScoresOf:
    """The fp32 model's scores for some images of `test`: by torch, or by ONNX Runtime where it comes as a graph."""

    def answer(preprocessing: Preprocessing, positions: Array) -> Array:
        part = test
        if len(positions) < len(test):
            part = replace(test, images=test.images[positions], labels=test.labels[positions])
        if loaded.onnx is not None:
            return ort_scores(loaded.onnx, preprocessing, part)
        return split_scores(loaded.require_module(), part, preprocessing, "fp32 torch, test")

    return answer


def with_accuracy(reference: Reference, scores: Array, test: "Split", chance: str) -> Reference:
    output = reference.output
    is_multilabel = output.is_multilabel(scores.shape[1])
    return msgspec.structs.replace(
        reference,
        accuracy=float(output.grade(scores, test.labels).mean()),
        chance=chance,
        mean_average_precision=mean_average_precision(scores, test.labels) if is_multilabel else None,
    )


def require_accuracy(job: "BuildJob", reference: Reference) -> None:
    """AccuracyError for a model that is no better than chance, or below the recipe's min_accuracy, or whose outputs
    have other names than it says."""
    least = job.recipe.build.min_accuracy
    if reference.wrong_labels:
        raise AccuracyError(f"{job.path}: {reference.wrong_labels}")
    if reference.accuracy is None:
        return
    if least is None and reference.chance:
        raise AccuracyError(
            f"{job.path}: {reference.description}: {reference.chance}; to build it all the same: min_accuracy = 0 "
            "under [build]"
        )
    if reference.chance:
        logger.info(f"  {reference.chance}")
    if least is not None and 100 * reference.accuracy < least:
        raise AccuracyError(
            f"{job.path}: {reference.description}: {reference.accuracy:.2%} of {reference.images} test images; "
            f"expected at least {least:g} % (min_accuracy under [build])"
        )


def reference_after_training(job: "BuildJob", cache: "StageCache", model: Model, loaded: Reference) -> Reference:
    """`model`, the last that was trained, where what was loaded has no accuracy on these classes."""
    if loaded.accuracy is not None or not loaded.images:
        return loaded
    measured = _trained_reference(job, cache, model, loaded, "model after its training")
    trains = any(is_training(step) for _, step in job.steps)
    return measured if trains else msgspec.structs.replace(measured, chance="")  # asked for with random weights


def fp32_accuracy(job: "BuildJob", cache: "StageCache", model: Model, title: str) -> float | None:
    """The accuracy of fp32 torch on the test split, a share; None without one, and where the model tells other classes
    apart than the data's."""
    bare = Reference("", job.data.classes, None, len(job.data.split("test")), model.record.output)
    return _trained_reference(job, cache, model, bare, title).accuracy


def _trained_reference(job: "BuildJob", cache: "StageCache", model: Model, loaded: Reference, title: str) -> Reference:
    def make(_: Path, __: Path) -> Reference:
        module, test, shape = load_staged(job, model).module, job.data.split("test"), job.recipe.input
        if not len(test) or not loaded.output.fits(class_count(module, shape), len(job.data.classes)):
            return loaded
        scores = split_scores(module, test, shape, "fp32 torch, test")
        found = compare_with_chance(loaded.output.decide(scores), test.labels)
        chance = describe_chance(found, loaded.output.measure(scores.shape[1]), len(test)) if found.is_at_chance else ""
        reference = with_accuracy(loaded, scores, test, chance and f"{chance} after its training; {TRAINING_CURE}")
        return msgspec.structs.replace(reference, after_training=True)

    inputs = {"model": module_key(model), "loaded": msgspec.to_builtins(loaded)}
    return cache.run(Stage("accuracy", f"{title}: fp32 accuracy on the test split", Reference, inputs, make)).record


def check_transform(job: "BuildJob", cache: "StageCache", inputs: ModelInputs) -> None:
    """AccuracyError where [input] loses more than the recipe allows against the transform that it was found from. A
    model that is still to be trained learns from what [input] makes, and loses nothing."""
    match, recipe = job.match, job.recipe
    if match is None or recipe.model.weights == "random" or job.replaces_head:
        return
    name, allowed = match.transform, recipe.build.max_accuracy_loss

    def make(_: Path, __: Path) -> TransformCost:
        transform = load_transform(name, job.base, recipe.input.channels == 1)
        return measure_cost(load_trained_model(job), transform, job.data, recipe.input)

    files = {"transform": transform_digests(name, job.base), "match": msgspec.to_builtins(match)}
    title = f"input: the model's answers by {name} and by [input]"
    cost = cache.run(Stage("transform-cost", title, TransformCost, {**inputs, **files}, make)).record
    figures = f"{cost.changed:.2%} of answers differ; pixels are equal {match.difference}"
    if cost.by_transform is not None and cost.by_input is not None:
        right = f"{cost.by_transform:.2%} right by {name}, {cost.by_input:.2%} by [input]"
        figures = f"{right}, on {cost.images} images of {cost.part}; {figures}"
    if cost.points > allowed:
        nearest = ", ".join(input_lines(match.preprocessing))
        raise AccuracyError(
            f"{job.path}: the nearest that [input] can say loses {cost.points:.2f} points, at most {allowed:g} are "
            f"allowed: {figures}; the nearest is {nearest}; move into the model what it cannot say"
        )
    logger.info(f"input: {figures}")
