"""Accuracy on the whole test split: of a running container, a bundle's engine, or the torch model."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.data import DataSet
from toolchain.errors import DataError, UsageError
from toolchain.job.recipe_input import RecipeData, load_recipe_data
from toolchain.progress import track
from toolchain.recipe import read_recipe
from toolchain.records.output import OutputKind, mean_average_precision
from toolchain.records.tensors import Array

if TYPE_CHECKING:
    from deploy.containers.credentials import Credentials

logger = logging.getLogger(__name__)

BATCH = 50
Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Evaluation(msgspec.Struct, frozen=True):
    """accuracy: share of `images` images of the test split whose top-1 is right, or the mean F1 of their labels, as
    `measure` says; right: how many are right, with all of their labels; mean_average_precision: over the labels."""

    of: str
    data: str
    images: int
    right: int
    accuracy: float
    measure: str
    mean_average_precision: float | None


def evaluate_accuracy(where: str, recipe: Path | None, shown: "Credentials | None" = None) -> Evaluation:
    """Evaluate `where` (URL, bundle folder, or recipe) on every test image of the recipe's data."""
    if where.endswith(".toml"):
        return _as_trained(Path(where))
    if recipe is None:
        raise UsageError(f"eval {where}: no test data named; add --recipe=recipes/NAME.toml")
    data = _data(recipe).data
    if where.startswith(("http://", "https://")):
        return _by_container(where, data, shown)
    return _by_bundle(Path(where), data)


def _data(recipe: Path) -> RecipeData:
    read = read_recipe(recipe)
    if read.data is None:
        raise DataError(f"{recipe}: no [data], so there is nothing to evaluate on; name labelled images there")
    found = load_recipe_data(msgspec.structs.replace(read, calibration=None), recipe)
    if not len(found.data.split("test")):
        raise DataError(f"{found.data.name}: no labelled test split to evaluate on")
    return found


def _by_container(url: str, data: DataSet, shown: "Credentials | None") -> Evaluation:
    from deploy.containers.client import NO_CREDENTIALS, connect_client, served_model, served_output

    shown = shown or NO_CREDENTIALS
    with connect_client(url, served_model(url, shown), credentials=shown) as client:
        return _evaluation(f"{url} {client.model}", data, _collect(data, client.infer), served_output(url, shown))


def _by_bundle(folder: Path, data: DataSet) -> Evaluation:
    from deploy.runtime.device.probe import default_threads
    from deploy.runtime.engines import Settings, serving_engine
    from toolchain.records.bundle import open_bundle

    bundle = open_bundle(folder)
    with serving_engine(bundle, Settings(default_threads(), "throughput")) as engine:
        name, output = engine.inputs[0].name, engine.outputs[0].name
        scores = _collect(data, lambda images: engine.infer({name: images})[output])
    return _evaluation(f"{folder.name} {bundle.manifest.chosen}", data, scores, bundle.manifest.output)


def _as_trained(recipe: Path) -> Evaluation:
    """The original model in fp32: by torch, or by ONNX Runtime if it is an ONNX file. Where it is no better than
    chance, what explains that is logged."""
    from toolchain.accuracy import explain_chance
    from toolchain.accuracy.diagnosis import ScoredModel
    from toolchain.accuracy.label_order import refuse_labels
    from toolchain.build.reference import scores_by
    from toolchain.compress.quantization.restore import rebuild_qat_layers
    from toolchain.models import load_model

    found = _data(recipe)
    read, data = found.recipe, found.data
    test, classes = data.split("test"), data.classes
    model = load_model(
        read.model,
        read.input,
        len(classes),
        recipe.parent,
        seed=read.build.seed,
        rebuild=rebuild_qat_layers,
        multilabel=data.multilabel,
    )
    scores_of = scores_by(model, test)
    scores = scores_of(read.input, np.arange(len(test)))
    subject = ScoredModel(scores, test.labels, classes, model.output, read.input, scores_of)
    if wrong := refuse_labels(model.output.decide(scores), test.labels, data.renumbered, classes):
        logger.info(wrong)
    elif chance := explain_chance(subject):
        logger.info(chance)
    runner = "onnxruntime" if model.module is None else "torch"
    return _evaluation(f"{recipe.name} fp32 {runner}", data, scores, model.output)


def _collect(data: DataSet, answer: Answer) -> Array:
    """The scores of every test image."""
    images = data.split("test").images
    starts = track(range(0, len(images), BATCH), "test batches", -(-len(images) // BATCH))
    return np.concatenate([answer(np.ascontiguousarray(images[at : at + BATCH])) for at in starts])


def _evaluation(of: str, data: DataSet, scores: Array, output: OutputKind) -> Evaluation:
    labels, width = data.split("test").labels, scores.shape[1]
    if not output.fits(width, len(data.classes)):
        raise DataError(f"{of}: {width} outputs, but {data.name} has {len(data.classes)} classes; name its own recipe")
    grades = output.grade(scores, labels)
    return Evaluation(
        of=of,
        data=data.name,
        images=len(grades),
        right=int((grades == 1).sum()),
        accuracy=float(grades.mean()),
        measure=output.measure(width),
        mean_average_precision=mean_average_precision(scores, labels) if output.is_multilabel(width) else None,
    )
