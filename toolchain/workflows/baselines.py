"""What the release is held against: the trained model as it came, in fp32, by PyTorch and by OpenVINO, on this host;
for a bundle that runs on a GPU, by PyTorch on it, copies to and from it counted.

They run on the same threads as the container, one picture at a time. PyTorch is handed normalized float32 tensors, so
its preprocessing costs it nothing, while the engines take uint8 pictures and do theirs inside: the ratio understates.
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
    """The contestants that can run here: PyTorch unless the model came as ONNX, OpenVINO where it is installed."""
    pictures, inputs = trial_images(job.data), model_inputs(job)
    model = trained_model(job, DistributedStageCache(cache, distributed_context()), inputs)
    found: list[Runner] = []
    if model is not None:
        found.append(_torch(job, model, pictures))
    if backend("openvino").missing() or target_variant(job.target).gpu:
        yield tuple(found)
        return
    graph = export_graph(job, cache, inputs, model)
    artifact = build_artifact(replace(job, target="openvino"), cache, graph, "fp32")
    with open_engine(artifact.folder, artifact.record, Settings(job.threads)) as engine:
        name = engine.inputs[0].name
        feeds = [{name: pictures[at : at + 1]} for at in range(len(pictures))]
        found.append(CallableRunner(OPENVINO, engine.infer, feeds))
        yield tuple(found)


def _torch(job: "BuildJob", model: Model, pictures: NDArray[np.uint8]) -> Runner:
    import torch

    from toolchain.models.preprocessing import normalize_images

    torch.set_num_threads(job.threads)
    device = "cuda" if target_variant(job.target).gpu and torch.cuda.is_available() else "cpu"
    module = load_staged(job, model).module.eval().to(device)
    inputs = [
        normalize_images(torch.from_numpy(pictures[at : at + 1]), job.recipe.input) for at in range(len(pictures))
    ]

    def answer(image: torch.Tensor) -> object:
        with torch.inference_mode():
            return module(image.to(device)).cpu()

    return CallableRunner(TORCH, answer, inputs)
