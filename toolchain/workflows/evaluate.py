"""Top-1 accuracy on the whole test split: of a running container, a bundle's engine, or the torch model."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.data import DataSet, Split, load
from toolchain.errors import DataError, UsageError
from toolchain.progress import track
from toolchain.recipe import read_recipe

if TYPE_CHECKING:
    from deploy.containers.credentials import Credentials

BATCH = 50
Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


class Evaluation(msgspec.Struct, frozen=True):
    """accuracy: share of `images` images of the test split whose top-1 is right."""

    of: str
    data: str
    images: int
    right: int
    accuracy: float


def evaluate_accuracy(where: str, recipe: Path | None, shown: "Credentials | None" = None) -> Evaluation:
    """Evaluate `where` (URL, bundle folder, or recipe) on every test image of the recipe's data."""
    if where.endswith(".toml"):
        return _as_trained(Path(where))
    if recipe is None:
        raise UsageError(f"eval {where}: no test data named; add --recipe=recipes/NAME.toml")
    data = _data(recipe)
    if where.startswith(("http://", "https://")):
        return _by_container(where, data, shown)
    return _by_bundle(Path(where), data)


def _data(recipe: Path) -> DataSet:
    read = read_recipe(recipe)
    if read.data is None:
        raise DataError(f"{recipe}: no [data], so there is nothing to evaluate on; name labelled images there")
    data = load(read.data, read.input, recipe.parent)
    if not len(data.split("test")):
        raise DataError(f"{data.name}: no labelled test split to evaluate on")
    return data


def _by_container(url: str, data: DataSet, shown: "Credentials | None") -> Evaluation:
    from deploy.containers.client import NO_CREDENTIALS, connect_client, served_model

    shown = shown or NO_CREDENTIALS
    with connect_client(url, served_model(url, shown), credentials=shown) as client:
        return _count_correct(f"{url} {client.model}", data, client.infer)


def _by_bundle(folder: Path, data: DataSet) -> Evaluation:
    from deploy.runtime.device.probe import default_threads
    from deploy.runtime.engines import Settings, serving_engine
    from toolchain.records.bundle import open_bundle

    bundle = open_bundle(folder)
    with serving_engine(bundle, Settings(default_threads(), "throughput")) as engine:
        name, output = engine.inputs[0].name, engine.outputs[0].name
        return _count_correct(
            f"{folder.name} {bundle.manifest.chosen}", data, lambda images: engine.infer({name: images})[output]
        )


def _as_trained(recipe: Path) -> Evaluation:
    """The original model in fp32: by torch, or by ONNX Runtime if it is an ONNX file."""
    from toolchain.compress.metrics import accuracy
    from toolchain.compress.quantization.restore import rebuild_qat_layers
    from toolchain.export import ort_accuracy
    from toolchain.models import load_model

    read, data = read_recipe(recipe), _data(recipe)
    test = data.split("test")
    seed = read.build.seed
    model = load_model(read.model, read.input, len(data.classes), recipe.parent, seed=seed, rebuild=rebuild_qat_layers)
    if model.module is not None:
        of, share = "fp32 torch", accuracy(model.module, test, read.input, "fp32 torch, test")
    else:
        of, share = "fp32 onnxruntime", ort_accuracy(model.require_graph(), read.input, test)
    return Evaluation(f"{recipe.name} {of}", data.name, len(test), round(share * len(test)), share)


def _count_correct(of: str, data: DataSet, answer: Answer) -> Evaluation:
    test = data.split("test")
    right = sum(
        _right(test, at, answer) for at in track(range(0, len(test), BATCH), "test batches", -(-len(test) // BATCH))
    )
    return Evaluation(of, data.name, len(test), right, right / len(test))


def _right(part: Split, at: int, answer: Answer) -> int:
    logits = answer(np.ascontiguousarray(part.images[at : at + BATCH]))
    return int((logits.argmax(1) == part.labels[at : at + BATCH]).sum())
