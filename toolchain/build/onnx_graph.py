"""A model as one ONNX graph, preprocessing folded in, checked against torch, or against the user's own ONNX file as it
is, on images outside the test split.

Knows nothing of targets.
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.build.trained_model import Model, ModelInputs, load_staged, load_trained_model, module_key
from toolchain.errors import ExportError
from toolchain.export import check_classes, check_converted, check_onnx, onnx_from_onnx, onnx_from_torch
from toolchain.failures import explain_failure
from toolchain.job.samples import trial_images
from toolchain.job.stage import Stage, StageResult, tool_versions
from toolchain.models.failing_layer import find_failing_layer
from toolchain.records.output import OutputKind

if TYPE_CHECKING:
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

logger = logging.getLogger(__name__)

ONNX = "model.onnx"
Graph = StageResult[OutputKind]  # what its outputs say; its folder holds ONNX


def export_graph(job: "BuildJob", cache: "StageCache", inputs: ModelInputs, model: Model | None) -> Graph:
    """The graph of `model`; None: of the trained model, which came as a graph."""

    def make(folder: Path, _: Path) -> OutputKind:
        shape, path = job.recipe.input, folder / ONNX
        if model is None:
            loaded = load_trained_model(job)
            source = loaded.require_graph()
            inside = f"; {loaded.output.activation} inside" if loaded.output.in_graph else ""
            logger.info(f"  {source.describe()}{inside}")
            cure = "export it again with torch.onnx.export"
            with explain_failure(ExportError, f"{job.recipe.model.source}: cannot be used", cure):
                onnx_from_onnx(source, shape, path)
                if job.data.classes:
                    check_classes(path, trial_images(job.data), len(job.data.classes), loaded.output)
                check_converted(path, source, shape, trial_images(job.data))
            return loaded.output
        module = load_staged(job, model).module
        cure = "change the model there, or give it as an ONNX file"
        with explain_failure(ExportError, "the model cannot be exported", cure, find_failing_layer):
            onnx_from_torch(module, shape, path)
            check_onnx(path, module, shape, trial_images(job.data))
        return model.record.output

    depends = {
        "model": module_key(model) if model else inputs,
        "tools": tool_versions("onnx", "onnxscript", "onnxruntime", "torch"),
    }
    title = f"export: ONNX, checked by ONNX Runtime against {'torch' if model else 'the file as it is'}"
    return cache.run(Stage("onnx", title, OutputKind, depends, make))
