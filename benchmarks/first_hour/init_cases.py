"""Twelve models as people bring them, trained here for a minute each: what is typed, and which [input] is right."""

from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models

from benchmarks.first_hour.drawn_images import read_part, write_folder
from toolchain.records.tensors import Preprocessing

SIDE, TRAIN, TEST = 32, 50, 20
EPOCHS, BATCH, RATE = 14, 25, 2e-3
CLASSES, OTHER_CLASSES = 4, 6
GREY_LABELS = (0, 2, 4)  # without colours, patterns alone tell classes apart
IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF: dict[str, Any] = {"mean": (0.5,), "std": (0.5,)}
NETWORK = '''"""Somebody's own network."""

import torch
from torch import nn


class Own(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        layers, widths = [], (channels, 24, 48, 64)
        for before, width in zip(widths, widths[1:]):
            layers += [nn.Conv2d(before, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU()]
        self.body, self.top = nn.Sequential(*layers), nn.Linear(64, classes)

    def forward(self, x):
        return self.top(self.body(x).mean((2, 3)))


def colour():
    return Own(3, 4)


def grey():
    return Own(1, 3)


def loaded():
    model = colour()
    model.load_state_dict(torch.load(__file__.replace("network.py", "inner.pth"), weights_only=True))
    return model
'''


@dataclass(frozen=True)
class InitCase:
    """model: what is typed after `init`; weights: after --weights; data: the folder; input: what is right;
    accuracy: on the test images with that; new_head: the data has other classes than the model."""

    name: str
    model: str
    data: str
    input: Preprocessing
    accuracy: float | None
    weights: str | None = None
    new_head: bool = False


def draw_folders(base: Path) -> None:
    write_folder(base / "colour", SIDE, range(CLASSES), False, TRAIN, TEST)
    write_folder(base / "grey", SIDE, GREY_LABELS, True, TRAIN, TEST)
    write_folder(base / "six", SIDE, range(OTHER_CLASSES), False, TRAIN, TEST)


def write_cases(base: Path) -> "list[tuple[str, Callable[[], InitCase]]]":
    """Each by its name, trained and saved when it is called."""
    (base / "network.py").write_text(NETWORK)
    return [
        ("torchvision, state dict", lambda: _plain(base)),
        ("DataParallel in a trainer's dictionary", lambda: _data_parallel(base)),
        ("timm's training script: arch, arguments, EMA", lambda: _averaged(base)),
        ("torch.compile and Lightning", lambda: _lightning(base)),
        ("own function and a checkpoint", lambda: _own(base)),
        ("own function with its own weights", lambda: _own_loaded(base)),
        ("head for other classes", lambda: _other_head(base)),
        ("1 channel", lambda: _one_channel(base)),
        ("BGR, as OpenCV reads", lambda: _bgr(base)),
        ("bytes, 0 to 255", lambda: _bytes(base)),
        ("head behind a dropout, the whole module", lambda: _whole_module(base)),
        ("ONNX, BGR less a mean", lambda: _onnx(base)),
    ]


def _plain(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, **IMAGENET)
    net = _train(models.resnet18(num_classes=CLASSES), base / "colour", shape)
    torch.save(net.state_dict(), base / "plain.pth")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("torchvision", str(base / "plain.pth"), "colour", shape, accuracy)


def _data_parallel(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE)
    net = _train(models.shufflenet_v2_x0_5(num_classes=CLASSES), base / "colour", shape)
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 9, "state_dict": state, "best_acc1": 99.0, "optimizer": {}}, base / "model_best.pth.tar")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("parallel", str(base / "model_best.pth.tar"), "colour", shape, accuracy)


def _averaged(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, **HALF)
    net = _train(models.shufflenet_v2_x0_5(num_classes=CLASSES), base / "colour", shape)
    raw = models.shufflenet_v2_x0_5(num_classes=CLASSES).state_dict()
    content = {
        "arch": "shufflenetv2_050",
        "args": Namespace(mean=None),
        "state_dict": raw,
        "state_dict_ema": net.state_dict(),
    }
    torch.save(content, base / "averaged.pth.tar")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("averaged", str(base / "averaged.pth.tar"), "colour", shape, accuracy)


def _lightning(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, **IMAGENET)
    net = _train(models.mobilenet_v3_small(num_classes=CLASSES), base / "colour", shape)
    state = {f"model._orig_mod.{name}": tensor for name, tensor in net.state_dict().items()}
    state["criterion.weight"] = torch.ones(CLASSES)
    torch.save({"state_dict": state, "hyper_parameters": {"lr": 1e-3}}, base / "last.ckpt")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("lightning", str(base / "last.ckpt"), "colour", shape, accuracy)


def _own(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, channels=1, **HALF)
    net = _train(_own_network(base, "grey"), base / "grey", shape)
    torch.save(net.state_dict(), base / "grey.pth")
    accuracy = _measure(net, base / "grey", shape)
    return InitCase("own", f"{base / 'network.py'}:grey", "grey", shape, accuracy, weights=str(base / "grey.pth"))


def _own_loaded(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, **IMAGENET)
    net = _train(_own_network(base, "colour"), base / "colour", shape)
    torch.save(net.state_dict(), base / "inner.pth")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("loaded", f"{base / 'network.py'}:loaded", "colour", shape, accuracy)


def _other_head(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, **IMAGENET)
    net = _train(models.shufflenet_v2_x0_5(num_classes=OTHER_CLASSES), base / "six", shape)
    torch.save({"model": net.state_dict()}, base / "six.pt")
    return InitCase("head", str(base / "six.pt"), "colour", shape, None, new_head=True)


def _one_channel(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, channels=1)
    net = models.shufflenet_v2_x0_5(num_classes=len(GREY_LABELS))
    net.conv1[0] = nn.Conv2d(1, 24, 3, 2, 1, bias=False)
    net = _train(net, base / "grey", shape)
    torch.save(net.state_dict(), base / "one-channel.pth")
    accuracy = _measure(net, base / "grey", shape)
    return InitCase("one-channel", str(base / "one-channel.pth"), "grey", shape, accuracy)


def _bgr(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, **IMAGENET, order="bgr")
    net = _train(models.shufflenet_v2_x0_5(num_classes=CLASSES), base / "colour", shape)
    torch.save(net.state_dict(), base / "bgr.pth")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("bgr", str(base / "bgr.pth"), "colour", shape, accuracy)


def _bytes(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, scale=1)
    net = _train(models.mnasnet0_5(num_classes=CLASSES), base / "colour", shape)
    torch.save(net.state_dict(), base / "bytes.pth")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("bytes", str(base / "bytes.pth"), "colour", shape, accuracy)


def _whole_module(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, **HALF)
    net = models.shufflenet_v2_x0_5(num_classes=CLASSES)
    net.fc = nn.Sequential(OrderedDict([("0", nn.Dropout(0.2)), ("1", nn.Linear(1024, CLASSES))]))
    net = _train(net, base / "colour", shape)
    torch.save(net, base / "whole.pt")
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("whole", str(base / "whole.pt"), "colour", shape, accuracy)


def _onnx(base: Path) -> InitCase:
    shape = Preprocessing(SIDE, SIDE, mean=(103.939, 116.779, 123.68), std=(1.0,), scale=1, order="bgr")
    net = _train(_own_network(base, "colour"), base / "colour", shape)
    example = (torch.zeros(1, 3, SIDE, SIDE),)
    axes: Any = {"image": {0: "batch"}}
    torch.onnx.export(net, example, base / "net.onnx", input_names=["image"], dynamic_axes=axes, dynamo=False)
    accuracy = _measure(net, base / "colour", shape)
    return InitCase("onnx", str(base / "net.onnx"), "colour", shape, accuracy)


def _own_network(base: Path, function: str) -> nn.Module:
    names: dict[str, Any] = {"__file__": str(base / "network.py"), "__name__": "network"}
    exec(NETWORK, names)
    network: nn.Module = names[function]()
    return network


def _train(net: nn.Module, folder: Path, shape: Preprocessing) -> nn.Module:
    """In evaluation mode, with statistics that have settled."""
    torch.manual_seed(0)
    values, labels = (torch.from_numpy(each) for each in read_part(folder, "train", shape))
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 0.1
    optimizer = torch.optim.AdamW(net.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * (len(values) // BATCH))
    net.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(values))
        for at in range(0, len(values) - BATCH + 1, BATCH):
            batch = order[at : at + BATCH]
            loss = nn.functional.cross_entropy(net(values[batch]), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return net.eval()


def _measure(net: nn.Module, folder: Path, shape: Preprocessing) -> float:
    """The share of test images that are right with what the network was trained with."""
    values, labels = (torch.from_numpy(each) for each in read_part(folder, "test", shape))
    with torch.inference_mode():
        return float((net(values).argmax(1) == labels).float().mean())
