"""What every candidate is held against: the model's accuracy on the whole test split, by fp32 torch.

By ONNX Runtime where the model comes as a graph. Knows nothing of engines or candidates.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from toolchain.build.trained_model import Model, ModelInputs, load_staged, load_trained_model, module_key
from toolchain.compress.metrics import accuracy
from toolchain.export import ort_accuracy
from toolchain.job.stage import Stage
from toolchain.models.check import class_count

if TYPE_CHECKING:
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache


class Reference(msgspec.Struct, frozen=True):
    """What the model was before anything was done to it. accuracy: fp32, share of the `images` test images.
    after_training: it came untrained or with other classes, so the figure is that of the model after its last
    training."""

    description: str
    labels: tuple[str, ...]
    accuracy: float | None
    images: int
    after_training: bool = False


def reference_as_loaded(job: "BuildJob", cache: "StageCache", inputs: ModelInputs) -> Reference:
    """The trained model as it came."""

    def make(_: Path, __: Path) -> Reference:
        loaded, test = load_trained_model(job), job.data.split("test")
        share = None
        # random weights, and a head that is still to be replaced, have no accuracy on these classes
        if len(test) and loaded.head_fits and job.recipe.model.weights != "random":
            if loaded.module is not None:
                share = accuracy(loaded.module, test, job.recipe.input, "fp32 torch, test")
            elif loaded.onnx is not None:
                share = ort_accuracy(loaded.onnx, job.recipe.input, test)
        labels = loaded.labels or job.data.classes or number_classes(loaded.classes)
        return Reference(loaded.description, labels, share, len(test))

    title = "model: fp32 accuracy on the test split"
    return cache.run(Stage("reference", title, Reference, inputs, make)).record


def number_classes(count: int) -> tuple[str, ...]:
    """Names for classes that neither the recipe, nor the weights, nor any data names."""
    return tuple(f"class {number}" for number in range(count))


def reference_after_training(job: "BuildJob", cache: "StageCache", model: Model, loaded: Reference) -> Reference:
    """`model`, the last that was trained, where what was loaded has no accuracy on these classes."""
    if loaded.accuracy is not None or not loaded.images:
        return loaded
    share = fp32_accuracy(job, cache, model, "model after its training")
    return msgspec.structs.replace(loaded, accuracy=share, after_training=True)


def fp32_accuracy(job: "BuildJob", cache: "StageCache", model: Model, title: str) -> float | None:
    """Top-1 of fp32 torch on the test split, a share; None without one, and where the model tells other classes apart
    than the data's."""

    def make(_: Path, __: Path) -> float | None:
        module, test, shape = load_staged(job, model).module, job.data.split("test"), job.recipe.input
        fits = len(test) and class_count(module, shape) == len(job.data.classes)
        return accuracy(module, test, shape, "fp32 torch, test") if fits else None

    inputs = {"model": module_key(model)}
    return cache.run(Stage("accuracy", f"{title}: fp32 accuracy on the test split", float | None, inputs, make)).record
