"""The three models that every server serves, as bundles, and the images of the requests.

ResNet-20 is the trained example, by its recipe. MobileNet-v2 and ResNet-50 are torchvision's architectures without a
training: their classifier is fitted to a few synthetic images (benchmarks/compression/untrained.py), so that logits
differ and two ways of running the model can be compared; their accuracy is meaningless. They are quantized by our own
back end on those images. Their candidates cannot be chosen by accuracy, so int8 is the only one.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from benchmarks import logger
from benchmarks.compression.untrained import fit_classifier, set_batchnorm_statistics
from benchmarks.gate import run_toolchain
from deploy.runtime.device.probe import default_threads
from deploy.runtime.engines import Settings
from toolchain.backends import Calibration, backend
from toolchain.backends.needs import needs_of
from toolchain.build.bundle import GOLDEN_AGREEMENT, GOLDEN_RELATIVE
from toolchain.build.candidates import engine_answers
from toolchain.export import onnx_from_torch
from toolchain.models.preprocessing import normalize_images
from toolchain.paths import home
from toolchain.records.bundle import SAMPLE, Bundle, file_record, open_bundle, write_bundle
from toolchain.records.manifest import Candidate, DataRecord, GoldenTolerances, Manifest
from toolchain.records.tensors import Preprocessing, TensorSpec, preprocessing_digest

TRAINED = "cifar10-resnet20"
RECIPE = "recipes/cifar10-resnet20.toml"
MODELS = ("mobilenet_v2", "resnet50", TRAINED)
SHAPE = Preprocessing(224, 224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CLASSES, PICTURES, GOLDEN, SEED = 1000, 32, 4, 0
JPEG_SIZE = (500, 375)  # ImageNet's usual size; a smaller model gets images of its own size
JPEG_QUALITY = 90
Pictures = NDArray[np.uint8]


def bundle_of(name: str) -> Bundle:
    """The bundle, built at the first call, in the state directory."""
    if name == TRAINED:
        return open_bundle(Path(run_toolchain("build", RECIPE)["bundle"]))
    folder = home() / "serving" / f"{name}.bundle"
    return open_bundle(folder) if folder.is_dir() else _made(name, folder)


def pictures(shape: Preprocessing, count: int) -> Pictures:
    """Synthetic images, uint8 [count, H, W, 3]: enlarged noise of 8 x 8 points, with some grain."""
    random = np.random.default_rng(SEED)
    coarse = random.integers(0, 256, (count, 8, 8, 3), np.uint8)
    size = (shape.width, shape.height)
    smooth = np.stack(
        [np.asarray(Image.fromarray(channel).resize(size, Image.Resampling.BICUBIC)) for channel in coarse]
    )
    grain = random.integers(-8, 9, smooth.shape)
    return np.clip(smooth + grain, 0, 255).astype(np.uint8)


def jpeg(shape: Preprocessing, path: Path) -> bytes:
    """A JPEG of a photograph's size, also written to `path`."""
    size = JPEG_SIZE if shape.height == SHAPE.height else (shape.width, shape.height)
    Image.fromarray(pictures(shape, 1)[0]).resize(size, Image.Resampling.BICUBIC).save(path, quality=JPEG_QUALITY)
    return path.read_bytes()


def _made(name: str, folder: Path) -> Bundle:
    logger.info(f"bench: {name}: exported and quantized, once")
    seen = pictures(SHAPE, PICTURES)
    with TemporaryDirectory() as at:
        parts = Path(at)
        candidate = _candidate(name, seen, parts)
        answers = engine_answers(parts, candidate, Settings(default_threads()), seen[:GOLDEN])
        np.savez(parts / SAMPLE, allow_pickle=False, inputs=seen[:GOLDEN], outputs_int8=answers)
        files = [*(parts / file for file in candidate.files), parts / SAMPLE]
        return write_bundle(folder, _manifest(name, parts, candidate, files), files)


def _candidate(name: str, seen: Pictures, parts: Path) -> Candidate:
    torch.manual_seed(SEED)
    module = getattr(torchvision.models, name)(weights=None).eval()
    images = normalize_images(torch.from_numpy(seen), SHAPE)
    set_batchnorm_statistics(module, images)
    fit_classifier(module, SHAPE, images, torch.arange(PICTURES))
    with TemporaryDirectory() as at:
        graph = onnx_from_torch(module, SHAPE, Path(at) / "model.onnx")
        return backend("openvino").build(graph, parts, "int8", Calibration(seen))


def _manifest(name: str, parts: Path, candidate: Candidate, files: list[Path]) -> Manifest:
    return Manifest(
        name=name,
        release="1",
        target="openvino",
        model=f"torchvision:{name}, random weights",
        inputs=(TensorSpec("image", "uint8", (None, *SHAPE.shape)),),
        outputs=(TensorSpec("logits", "float32", (None, CLASSES)),),
        labels=tuple(f"class {number}" for number in range(CLASSES)),
        preprocessing=SHAPE,
        preprocessing_sha256=preprocessing_digest(SHAPE),
        candidates=(candidate,),
        chosen="int8",
        choice="the only candidate",
        files=tuple(file_record(path) for path in files),
        golden=GoldenTolerances(GOLDEN_RELATIVE, GOLDEN_AGREEMENT),
        needs=needs_of(parts, candidate),
        data=DataRecord("made", "benchmarks/serving/models.py", "0" * 64),
        accuracy=None,
        certify_accuracy=None,
        steps=(),
        parity=(),
        tools={},
        recipe="",
    )
