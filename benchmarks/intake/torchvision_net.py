"""One of torchvision's classifiers, untrained, on a few drawn images: pruned, exported, quantized, run by OpenVINO, and
shown to TensorRT's parser. Run as `python -m benchmarks.intake.torchvision_net NAME`; prints one JSON record.

Knows nothing of other networks. Accuracy and speed are not looked at: what is tried is whether it goes through.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import torch
from torchvision import models

from deploy.runtime.engines import Settings
from toolchain.backends import Calibration, backend
from toolchain.build.candidates import engine_answers
from toolchain.compress import check_steps, parse_steps
from toolchain.compress.metrics import parameter_count
from toolchain.compress.step import CompressedModel, Step, StepContext
from toolchain.compress.step_failure import explain_step
from toolchain.data import DataSet, Split
from toolchain.data.dataset import Images
from toolchain.errors import ToolchainError
from toolchain.export import check_onnx, onnx_from_torch
from toolchain.models.torchvision import random_network
from toolchain.records.tensors import Preprocessing

CLASSES, IMAGES, SMALLEST_SIDE = 10, 12, 64
PRUNING = ({"prune_channels": {"ratio": 0.3}},)
SETTINGS = Settings(threads=2)


class NetOutcome(msgspec.Struct, frozen=True):
    """parameters: before and after pruning; failed: the stage that refused it, by the line it said."""

    name: str
    family: str
    side: int
    parameters: tuple[int, int] = (0, 0)
    failed: dict[str, str] = {}
    seconds: float = 0.0


def family_of(name: str) -> str:
    """The module of torchvision that builds it: `resnet`, `swin_transformer`."""
    return str(models.get_model_builder(name).__module__).rpartition(".")[2]


def smallest_side(name: str) -> int:
    """The smallest input that the weights' record allows, but not so small that nothing is left to convolve."""
    return max(SMALLEST_SIDE, *map(int, models.get_model_weights(name)["DEFAULT"].meta["min_size"]))


def try_net(name: str) -> NetOutcome:
    """What became of the network, stage by stage; an exception that is not ours comes out."""
    began, side = time.monotonic(), smallest_side(name)
    outcome = NetOutcome(name, family_of(name), side)
    with TemporaryDirectory(prefix="torchvision-") as folder:
        try:
            outcome = _run_stages(outcome, Path(folder), Preprocessing(side, side))
        except ToolchainError as error:
            outcome = msgspec.structs.replace(outcome, failed={"load": str(error)})
    return msgspec.structs.replace(outcome, seconds=round(time.monotonic() - began, 1))


def _run_stages(outcome: NetOutcome, folder: Path, shape: Preprocessing) -> NetOutcome:
    torch.manual_seed(0)
    data, onnx = draw_data(shape), folder / "model.onnx"
    images = np.asarray(data.split("train").images)
    original = random_network(outcome.name, CLASSES, {}).eval()
    context = StepContext(data, shape, folder)
    [(step_name, step)] = parse_steps(PRUNING, outcome.name)
    pruned = CompressedModel(original)
    failed: dict[str, str] = {}

    def prune() -> None:
        nonlocal pruned
        pruned = _prune(step_name, step, pruned, context)

    def export() -> None:
        onnx_from_torch(pruned.module, shape, onnx)
        check_onnx(onnx, pruned.module, shape, images[:3])

    stages: dict[str, Callable[[], object]] = {
        "prune": prune,
        "export": export,
        "openvino": partial(_run_openvino, onnx, folder, images),
        "tensorrt": partial(backend("tensorrt").check, onnx),
    }
    for stage, run in stages.items():
        try:
            run()
        except ToolchainError as error:
            failed[stage] = str(error)
            if stage != "openvino":  # TensorRT does not depend on it
                break
    return msgspec.structs.replace(
        outcome, parameters=(parameter_count(original), parameter_count(pruned.module)), failed=failed
    )


def _prune(name: str, step: Step, model: CompressedModel, context: StepContext) -> CompressedModel:
    """As a build does it: first dry, then for good."""
    check_steps([(name, step)], model, context, name)
    with explain_step(name, 1, name):
        return step.apply(model, context)


def _run_openvino(onnx: Path, folder: Path, images: Images) -> None:
    """fp32 and int8 (PTQ), each run on two images."""
    room = backend("openvino")
    for precision, calibration in (("fp32", None), ("int8", Calibration(images))):
        candidate = room.build(onnx, folder, precision, calibration)  # type: ignore[arg-type]  # of two precisions
        answers = engine_answers(folder, candidate, SETTINGS, images[:2])
        if answers.shape != (2, CLASSES) or not np.isfinite(answers).all():
            raise ToolchainError(f"{precision}: answers {list(answers.shape)}, or not finite")


def draw_data(shape: Preprocessing) -> DataSet:
    """A few images of noise with a bright half, of as many classes as there are."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, *shape.shape), np.uint8)
    labels = np.arange(IMAGES, dtype=np.int64) % CLASSES
    split = Split(images, labels, np.arange(IMAGES))
    names = tuple(f"class {number}" for number in range(CLASSES))
    return DataSet("drawn", names, "drawn", "0" * 64, {"train": split, "validate": split})


def main() -> None:
    torch.set_num_threads(2)
    print(msgspec.json.encode(try_net(sys.argv[1])).decode())


if __name__ == "__main__":
    main()
