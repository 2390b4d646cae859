"""The nets of saturation.py: ResNet-20, and EfficientNet-Lite0 (a kin of MobileNet-v2) with a head for CIFAR-10."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.compression.checkpoints import CIFAR
from deploy.runtime.device.probe import default_threads
from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import backend
from toolchain.compress.quantization.fake_quantize import observe_ranges
from toolchain.compress.quantization.prepare import prepare_qat
from toolchain.compress.quantization.restore import rebuild_qat_layers
from toolchain.compress.step import LearnedQuantization
from toolchain.data import load
from toolchain.export import onnx_from_torch
from toolchain.models import load_model
from toolchain.models.preprocessing import normalize_images
from toolchain.recipe import DataSpec, ModelSpec
from toolchain.records.tensors import Preprocessing

ROOT = Path(__file__).parents[2]
LITE = Preprocessing(64, 64, mean=(0.4980392156862745,) * 3, std=(0.5019607843137255,) * 3)
FITTED, RIDGE, CALIBRATION, BATCH = 8_000, 3_000.0, 300, 32


class Net(NamedTuple):
    """A trained net as ONNX, plain and quantization-aware (8-bit weights). images_file: uint8 [N, H, W, C], .npy."""

    name: str
    folder: Path
    onnx: Path
    qat_onnx: Path
    calibration: NDArray[np.uint8]
    images_file: Path
    labels: NDArray[np.int64]

    @property
    def images(self) -> NDArray[np.uint8]:
        images: NDArray[np.uint8] = np.load(self.images_file)
        return images


def resnet20(folder: Path, count: int) -> Net:
    """The committed nets."""
    place, examples = folder / "resnet20", ROOT / "examples" / "cifar10"
    place.mkdir()
    exported = []
    for name in ("resnet20", "resnet20-qat"):
        spec = ModelSpec("cifar:resnet20", str(examples / f"{name}.safetensors"))
        loaded = load_model(spec, CIFAR, 10, examples, rebuild=rebuild_qat_layers)
        exported.append(onnx_from_torch(loaded.require_module().eval(), CIFAR, place / f"{name}.onnx"))
    return _net("ResNet-20", place, exported, CIFAR, count)


def efficientnet_lite0(folder: Path, count: int) -> Net:
    """QAT: quantizers with the ranges of the calibration images, not trained further."""
    place = folder / "efficientnet-lite0"
    place.mkdir()
    body = Body()
    data = load(DataSpec("cifar10"), LITE, place)
    train = data.split("train")
    chosen = np.sort(np.random.default_rng(0).permutation(len(train))[:FITTED])
    features = _features(body, np.ascontiguousarray(train.images[chosen]), place)
    net = nn.Sequential(body, _fitted_head(features, train.labels[chosen])).eval()
    exported = [onnx_from_torch(net, LITE, place / "net.onnx")]
    normalized = normalize_images(torch.from_numpy(_calibration(LITE, place)), LITE)
    prepared = prepare_qat(net, LearnedQuantization(8, 8, False, True), True, True, normalized[:1]).eval()
    with torch.no_grad(), observe_ranges(prepared):
        for at in range(0, len(normalized), BATCH):
            prepared(normalized[at : at + BATCH])
    exported.append(onnx_from_torch(prepared.eval(), LITE, place / "qat.onnx"))
    return _net("EfficientNet-Lite0 (MobileNet-v2 kin), 64x64", place, exported, LITE, count)


NETS = (resnet20, efficientnet_lite0)


class Body(nn.Module):
    """EfficientNet-Lite0 up to its pooled features, its padded convolutions as torch's own."""

    def __init__(self) -> None:
        super().__init__()
        spec = importlib.util.spec_from_file_location("lite0", ROOT / "examples" / "efficientnet_lite0" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self.net = module.efficientnet_lite0()
        for name, layer in list(self.net.named_modules()):
            if isinstance(layer, nn.Conv2d):
                self.net.set_submodule(name, _plain(layer))

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.net.extract_features(x).mean((2, 3))
        return features


def _plain(layer: Any) -> nn.Module:
    """The package's convolution, which pads in its own forward(), as padding and a plain convolution."""
    plain = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    plain.load_state_dict({name: tensor for name, tensor in layer.state_dict().items() if name in ("weight", "bias")})
    return nn.Sequential(layer.static_padding, plain)


def _fitted_head(features: NDArray[np.float32], labels: NDArray[np.int64]) -> nn.Linear:
    """Ridge regression onto the classes, as one linear layer."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    z = (features - mean) / spread
    weights = np.linalg.solve(z.T @ z + RIDGE * np.eye(z.shape[1]), z.T @ (np.eye(10)[labels] - 0.1))
    head = nn.Linear(z.shape[1], 10)
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(10 * (weights / spread[:, None]).T))
        head.bias.copy_(torch.from_numpy(-10 * (mean / spread) @ weights))
    return head


def _features(body: nn.Module, images: NDArray[np.uint8], place: Path) -> NDArray[np.float32]:
    onnx = onnx_from_torch(body.eval(), LITE, place / "body.onnx")
    candidate = backend("openvino").build(onnx, place / "body", "fp32", None)
    with open_engine(place / "body", candidate, Settings(default_threads(), "throughput")) as engine:
        name, output = engine.inputs[0].name, engine.outputs[0].name
        parts = [engine.infer({name: images[at : at + BATCH]})[output] for at in range(0, len(images), BATCH)]
    return np.concatenate(parts)


def _calibration(shape: Preprocessing, place: Path) -> NDArray[np.uint8]:
    train = load(DataSpec("cifar10"), shape, place).split("train")
    chosen = np.random.default_rng(1).permutation(len(train))[:CALIBRATION]
    return np.ascontiguousarray(train.images[np.sort(chosen)])


def _net(name: str, place: Path, exported: list[Path], shape: Preprocessing, count: int) -> Net:
    test = load(DataSpec("cifar10"), shape, place).split("test")
    np.save(place / "images.npy", np.ascontiguousarray(test.images[:count]))
    plain, qat = exported
    return Net(name, place, plain, qat, _calibration(shape, place), place / "images.npy", test.labels[:count])
