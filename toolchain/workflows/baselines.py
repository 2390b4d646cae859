"""The baselines of a release: the original trained model in fp32, run by PyTorch and by OpenVINO on this host; for a
bundle that runs on a GPU, by PyTorch on that GPU, including the copies to and from it.

They use as many threads as the container, one image at a time. PyTorch gets normalized float32 tensors, so its
preprocessing costs nothing, while the engines preprocess uint8 images themselves: the ratio understates the speed-up.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from deploy.gate.interleaved import CallableRunner, Runner
from deploy.images.variants import target_variant
from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import backend
from toolchain.build.artifacts import build_artifact
from toolchain.build.onnx_graph import export_graph
from toolchain.build.trained_model import Model, load_staged, model_inputs, trained_model
from toolchain.compress.distributed import distributed_context
from toolchain.job.distributed_stages import DistributedStageCache
from toolchain.job.samples import trial_images

if TYPE_CHECKING:
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

TORCH, OPENVINO = "torch_fp32", "openvino_fp32"


@contextmanager
def baselines(job: "BuildJob", cache: "StageCache") -> Iterator[tuple[Runner, ...]]:
    """The baselines that can run here: PyTorch unless the model is an ONNX file, OpenVINO where it is installed."""
    images, inputs = trial_images(job.data), model_inputs(job)
    model = trained_model(job, DistributedStageCache(cache, distributed_context()), inputs)
    figures: list[Runner] = []
    if model is not None:
        figures.append(_torch(job, model, images))
    if backend("openvino").missing() or target_variant(job.target).gpu:
        yield tuple(figures)
        return
    graph = export_graph(job, cache, inputs, model)
    artifact = build_artifact(replace(job, target="openvino"), cache, graph, "fp32")
    with open_engine(artifact.folder, artifact.record, Settings(job.threads)) as engine:
        name = engine.inputs[0].name
        feeds = [{name: images[at : at + 1]} for at in range(len(images))]
        figures.append(CallableRunner(OPENVINO, engine.infer, feeds))
        yield tuple(figures)


def _torch(job: "BuildJob", model: Model, images: NDArray[np.uint8]) -> Runner:
    import torch

    from toolchain.models.preprocessing import normalize_images

    torch.set_num_threads(job.threads)
    device = "cuda" if target_variant(job.target).gpu and torch.cuda.is_available() else "cpu"
    module = load_staged(job, model).module.eval().to(device)
    inputs = [normalize_images(torch.from_numpy(images[at : at + 1]), job.recipe.input) for at in range(len(images))]

    def answer(image: torch.Tensor) -> object:
        with torch.inference_mode():
            return module(image.to(device)).cpu()

    return CallableRunner(TORCH, answer, inputs)
