"""One architecture of the zoo: pruned, exported, built for the engine in fp32 and int8, compared and timed.

No network is really trained: untrained.py replaces that, and four networks memorize 32 images in addition, so that
agreement is meaningful. Accuracy is not.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import logger
from benchmarks.compression.untrained import BATCH, fit_classifier, set_batchnorm_statistics
from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import Calibration, backend
from toolchain.build.candidates import engine_answers
from toolchain.compress import parse_steps
from toolchain.compress.metrics import macs
from toolchain.compress.serialization import load_compressed, save_compressed, weights_digest
from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.training.head import attach_head
from toolchain.data import DataSet, load
from toolchain.data.dataset import Split
from toolchain.errors import ModelError, RecipeError
from toolchain.export import onnx_from_torch, ort_logits, torch_logits
from toolchain.job.code_digest import source_tree
from toolchain.job.latency import latencies_ms
from toolchain.job.stage import Stage
from toolchain.job.stage_cache import StageCache
from toolchain.models import load_model
from toolchain.models.preprocessing import normalize_images
from toolchain.parity import Original, compare_three_ways
from toolchain.recipe import ModelSpec
from toolchain.records.manifest import Candidate, ParityRecord, Precision
from toolchain.records.tensors import Preprocessing

ROOT = Path(__file__).parents[2]
TARGET, THREADS, SEED = "openvino", 1, 0
FITTED, COMPARED = 32, 16  # images; see Pictures
BATCHES = (1, 2, 5, 8)  # ONNX Runtime's, so that a graph exported for one batch size is detected
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
LITE = {"mean": (0.4980392156862745,) * 3, "std": (0.5019607843137255,) * 3}


class NetPlan(NamedTuple):
    """importance: how channels are ranked. epochs: of finetune on the fitted images, after pruning."""

    importance: str
    epochs: int = 0


# Every importance at least once; no BatchNorm in vgg16 and squeezenet1_1. In mobile networks int8's rounding exceeds
# the small signal that pruning leaves (8, 11 and 14 of 16 images agreed, docs/lab.md): they are fine-tuned, as anyone
# would do after pruning, until they are sure of the images
NETS: Mapping[str, NetPlan] = {
    "vgg16": NetPlan("l1"),
    "inception_v3": NetPlan("l2"),
    "resnet34": NetPlan("fpgm"),
    "resnet50": NetPlan("bn_scale"),
    "mobilenet_v2": NetPlan("taylor", 30),
    "mobilenet_v3_large": NetPlan("l1", 30),
    "densenet121": NetPlan("l2"),
    "efficientnet_b0": NetPlan("fpgm", 40),
    "squeezenet1_1": NetPlan("taylor"),
    "efficientnet_lite0": NetPlan("bn_scale", 20),
}
ONNX = "model.onnx"
Images = NDArray[np.uint8]
Made = tuple[Path, Candidate, Path]  # an artifact's folder, its name, and the graph that it was built from


class About(msgspec.Struct, frozen=True):
    """The origin of the weights, how channels were ranked, and how many epochs the pruned model was trained."""

    weights: str
    importance: str
    epochs: int


class NetFigures(msgspec.Struct, frozen=True):
    """One network's figures. macs and latency_ms: original, pruned, and pruned in int8. blocks: the result of
    prune_blocks. seconds: since it was last resumed."""

    net: str
    date: str
    code: str
    about: About
    blocks: str
    macs: tuple[int, int]
    latency_ms: tuple[float, ...]
    parity: tuple[ParityRecord, ...]
    seconds: float


class Pictures(NamedTuple):
    """Images of the training split: for BatchNorm, the fit or training, and calibration (an untrained model has other
    ranges on other images). Outputs are compared on some of them: on other images an untrained model's logits are near
    ties, and the winning class is meaningless."""

    inputs: Tensor
    labels: Tensor
    calibration: Images
    compared: Images


def select_images(data: DataSet, shape: Preprocessing) -> Pictures:
    part = data.split("train")
    images = np.ascontiguousarray(part.images[:FITTED])
    inputs, labels = normalize_images(torch.from_numpy(images), shape), torch.from_numpy(part.labels[:FITTED])
    return Pictures(inputs, labels, images, images[:COMPARED])


def architecture(name: str, shape: Preprocessing, classes: int) -> tuple[nn.Module, str]:
    """The network with a new head, and the origin of its weights."""
    if name == "efficientnet_lite0":
        spec = ModelSpec("examples/efficientnet_lite0/model.py:efficientnet_lite0")
        module = load_model(spec, shape, classes, ROOT, allow_other_head=True).require_module()
        return attach_head(module, shape, classes), "ImageNet"
    for weights in ("official", "random"):
        try:
            spec = ModelSpec(f"torchvision:{name}", weights)
            module = load_model(spec, shape, classes, ROOT, allow_other_head=True, seed=SEED).require_module()
        except ModelError:
            if weights == "random":
                raise
            continue
        return attach_head(module, shape, classes), "ImageNet" if weights == "official" else "random"
    raise AssertionError


def pruned(module: nn.Module, context: StepContext, importance: str) -> nn.Module:
    options = {"ratio": 0.25, "round_to": 16, "importance": importance, "samples": 32}
    return apply_step(CompressedModel(module), context, "prune_channels", options).module


def finetune_net(module: nn.Module, context: StepContext, epochs: int) -> nn.Module:
    """The model after finetune on the fitted images only."""
    part = context.data.split("train")
    few = Split(part.images[:FITTED], part.labels[:FITTED], part.indices[:FITTED])
    data = replace(context.data, splits={"train": few, "validate": few})
    options = {"epochs": epochs, "lr": 0.05, "batch_size": BATCH, "augment": [], "keep_best": False}
    return apply_step(CompressedModel(module), replace(context, data=data), "finetune", options).module


def apply_step(net: CompressedModel, context: StepContext, name: str, options: dict[str, Any]) -> CompressedModel:
    """Parse, check and apply a recipe's step."""
    [(_, step)] = parse_steps(({name: options},), "benchmarks.compression.zoo")
    step.check(context)
    return step.apply(net, context)


def remove_one_block(module: nn.Module, context: StepContext) -> str:
    """The result of removing one residual block by prune_blocks, or the reason why it cannot."""
    try:
        after = apply_step(
            CompressedModel(module),
            context,
            "prune_blocks",
            {"count": 1, "importance": "influence", "samples": COMPARED},
        )
    except RecipeError as error:
        return f"refused: {str(error).partition(' (')[0]}"
    shape = context.preprocessing
    return f"{macs(module, shape) / 1e6:,.0f} -> {macs(after.module, shape) / 1e6:,.0f} M multiply-accumulates"


def measure_net(name: str, cache: StageCache) -> NetFigures:
    """Measure one network; each stage is cached. Any ToolchainError."""
    began, side = time.monotonic(), 299 if name == "inception_v3" else 224
    shape = Preprocessing(side, side, **(LITE if name == "efficientnet_lite0" else IMAGENET))
    data = load("cifar10", shape)
    seen = select_images(data, shape)
    nets = cache.run(
        Stage(
            "nets",
            f"{name}: pruned",
            About,
            {"plan": NETS[name]},
            lambda to, work: make_nets(name, data, shape, to, work),
        )
    )
    if name == "efficientnet_lite0":
        architecture(name, shape, len(data.classes))  # a kept net is read with its classes at hand
    whole, narrow = (load_compressed(nets.folder / f"{variant}.pt").module for variant in ("whole", "narrow"))
    blocks = cache.run(
        Stage(
            "blocks",
            f"{name}: one block fewer",
            str,
            {},
            lambda _, work: remove_one_block(whole, StepContext(data, shape, work, SEED)),
        )
    )
    artifacts = [
        build_artifact("whole", whole, shape, cache, None),
        build_artifact("narrow", narrow, shape, cache, None),
        build_artifact("narrow", narrow, shape, cache, Calibration(seen.calibration)),
    ]
    parity = compare_outputs(narrow, artifacts, shape, seen.compared)
    times = measure_latencies(artifacts, seen.compared)
    seconds = time.monotonic() - began
    macs_found = macs(whole, shape), macs(narrow, shape)
    return NetFigures(
        name,
        f"{datetime.now(UTC):%Y-%m-%d}",
        code(cache.folder),
        nets.record,
        blocks.record,
        macs_found,
        times,
        parity,
        seconds,
    )


def make_nets(name: str, data: DataSet, shape: Preprocessing, folder: Path, work: Path) -> About:
    """The original model with BatchNorm statistics, and the pruned one, fitted to the data's classes."""
    seen, context = select_images(data, shape), StepContext(data, shape, work, SEED)
    with torch.random.fork_rng([]):
        torch.manual_seed(SEED)
        whole, weights = architecture(name, shape, len(data.classes))
    set_batchnorm_statistics(whole, seen.inputs)
    plan = NETS[name]
    narrow = pruned(whole, context, plan.importance)
    set_batchnorm_statistics(narrow, seen.inputs)
    if plan.epochs:
        narrow = finetune_net(narrow, context, plan.epochs)
        set_batchnorm_statistics(narrow, seen.inputs)
    else:
        fit_classifier(narrow, shape, seen.inputs, seen.labels)
    save_compressed(CompressedModel(whole), folder / "whole.pt")
    save_compressed(CompressedModel(narrow), folder / "narrow.pt")
    return About(weights, *plan)


def build_artifact(
    what: str, module: nn.Module, shape: Preprocessing, cache: StageCache, calibration: Calibration | None
) -> Made:
    """An artifact of the model `what`, in int8 if there is calibration data; its graph is a separate stage."""
    precision: Precision = "int8" if calibration else "fp32"

    def export(folder: Path, _: Path) -> None:
        onnx_from_torch(module, shape, folder / ONNX)

    def make(folder: Path, _: Path) -> Candidate:
        return backend(TARGET).build(onnx.folder / ONNX, folder, precision, calibration)

    onnx = cache.run(Stage(f"{what}-onnx", f"  {what}: export", None, {"net": weights_digest(module)}, export))
    inputs, title = {"onnx": onnx.key}, f"  {what}: {TARGET} {precision}"
    artifact = cache.run(Stage(f"{what}-{precision}", title, Candidate, inputs, make))
    return artifact.folder, artifact.record, onnx.folder / ONNX


def compare_outputs(
    module: nn.Module, artifacts: list[Made], shape: Preprocessing, images: Images
) -> tuple[ParityRecord, ...]:
    """The parity of the pruned model in torch, ONNX Runtime, and the engine in fp32 and int8."""
    logger.info("  parity")
    _, *narrow = artifacts
    answers = {pair.precision: engine_answers(at, pair, Settings(THREADS), images) for at, pair, _ in narrow}
    graph = ort_logits(narrow[0][2], images, BATCHES)
    return compare_three_ways(Original("torch"), torch_logits(module, shape, images), graph, answers, TARGET)


def measure_latencies(artifacts: list[Made], images: Images) -> tuple[float, ...]:
    """Median latency of one image, interleaved: original fp32, pruned fp32, pruned int8."""
    logger.info("  latency")
    with ExitStack() as stack:
        engines = {
            str(number): stack.enter_context(open_engine(at, artifact, Settings(THREADS)))
            for number, (at, artifact, _) in enumerate(artifacts)
        }
        medians = latencies_ms(engines, images)
    return tuple(medians[str(number)] for number in range(len(artifacts)))


def code(cache: Path) -> str:
    """The digest of the code that determines a network's figures; parsed sources are cached in `cache`."""
    return source_tree(cache).digest(__name__)
