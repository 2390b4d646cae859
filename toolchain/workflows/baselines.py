"""What the release is held against: the trained model as it came, in fp32, by PyTorch and by OpenVINO, on this host;
for a bundle that runs on a GPU, by PyTorch on it, copies to and from it counted.

They run on the same threads as the container, one picture at a time. PyTorch is handed normalized float32 tensors, so
its preprocessing costs it nothing, while the engines take uint8 pictures and do theirs inside: the ratio understates.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.gate.interleaved import CallableContestant, Contestant
from deploy.images.variants import target_variant
from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import backend
from toolchain.build.pipeline import artifact, exported
from toolchain.build.steps import net_in, trained
from toolchain.job.job import Making
from toolchain.job.samples import trial_pictures

TORCH, OPENVINO = "torch_fp32", "openvino_fp32"


@contextmanager
def baselines(making: Making) -> Iterator[tuple[Contestant, ...]]:
    """The contestants that can run here: PyTorch unless the model came as ONNX, OpenVINO where it is installed."""
    pictures = trial_pictures(making.data)
    net = trained(making)
    found: list[Contestant] = []
    if net is not None:
        found.append(_torch(making, net, pictures))
    if backend("openvino").missing() or target_variant(making.target).gpu:
        yield tuple(found)
        return
    folder, candidate = artifact(making, "openvino", exported(making, net), "fp32")
    with open_engine(folder, candidate, Settings(making.threads)) as engine:
        name = engine.inputs[0].name
        feeds = [{name: pictures[at : at + 1]} for at in range(len(pictures))]
        found.append(CallableContestant(OPENVINO, engine.infer, feeds))
        yield tuple(found)


def _torch(making: Making, net: Path, pictures: NDArray[np.uint8]) -> Contestant:
    import torch

    from toolchain.models.preprocessing import normalize_images

    torch.set_num_threads(making.threads)
    device = "cuda" if target_variant(making.target).gpu and torch.cuda.is_available() else "cpu"
    module = net_in(making, net).module.eval().to(device)
    inputs = [
        normalize_images(torch.from_numpy(pictures[at : at + 1]), making.recipe.input) for at in range(len(pictures))
    ]

    def answer(image: torch.Tensor) -> object:
        with torch.inference_mode():
            return module(image.to(device)).cpu()

    return CallableContestant(TORCH, answer, inputs)
