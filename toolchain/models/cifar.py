"""Small networks for 32x32 images: ResNet-8/20/32/56 and VGG-11/16, by name.

They take normalized float32 [N, 3, 32, 32] and return logits [N, classes]; other sizes from 16x16 up work too. ResNets:
He et al. 2016, section 4.2, with 1x1 projection shortcuts; ResNet-8 (78 k parameters) is the MLPerf Tiny network
(Banbury et al. 2021). VGGs: Simonyan & Zisserman 2015 with batch normalization and one linear layer, as usual on CIFAR.
Knows no weights.
"""

from collections.abc import Callable, Sequence
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from toolchain.errors import ModelError

VGG11 = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512)  # widths of 3x3 convolutions; 0: max pooling
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)


class Block(nn.Module):
    """A residual block: two 3x3 convolutions and a shortcut."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            self.shortcut = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        output: Tensor = self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))
        return output


class ResNet(nn.Module):
    """A stem, three stages of `blocks` blocks with widths 16, 32 and 64, and a linear head."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        self.stages = nn.Sequential(_stage(16, 16, blocks, 1), _stage(16, 32, blocks, 2), _stage(32, 64, blocks, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))
        return logits


class VGG(nn.Module):
    """3x3 convolutions of `widths`, each with batch normalization and ReLU, and a linear head."""

    def __init__(self, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width_in = 3
        for width in widths:
            if not width:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(width_in, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            width_in = width
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.flatten(self.pool(self.features(x)), 1))
        return logits


def _stage(width_in: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (Block(width, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(Block(width_in, width, stride), *rest)


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet8": lambda classes: ResNet(1, classes),
    "resnet20": lambda classes: ResNet(3, classes),
    "resnet32": lambda classes: ResNet(5, classes),
    "resnet56": lambda classes: ResNet(9, classes),
    "vgg11": lambda classes: VGG(VGG11, classes),
    "vgg16": lambda classes: VGG(VGG16, classes),
}


def cifar_network(name: str, classes: int) -> nn.Module:
    """The network `name` with random weights from torch's current generator; ModelError lists the known names."""
    if name not in NETWORKS:
        near = get_close_matches(name, NETWORKS, 1)
        guess = f"; did you mean {near[0]}?" if near else "."
        raise ModelError(f"no CIFAR network '{name}'{guess} There are: {', '.join(NETWORKS)}")
    return NETWORKS[name](classes)
