"""Two small networks as a user would write them: for grey 28x28 images in 7 classes and wide 96x160 ones in 4.

They know nothing of the toolchain. train.py created the weights next to this file.
"""

import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    """Convolutions of stride 2, each with BatchNorm and ReLU, global average pooling, a linear head."""

    def __init__(self, channels: int, widths: tuple[int, ...], classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((channels, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        self.features, self.head = nn.Sequential(*layers), nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.flatten(self.features(x).mean((2, 3)), 1))


def grey28(classes: int = 7) -> nn.Module:
    """float32 [N, 1, 28, 28] -> logits [N, 7]."""
    return ConvNet(1, (16, 32, 64), classes)


def wide(classes: int = 4) -> nn.Module:
    """float32 [N, 3, 96, 160] -> logits [N, 4]."""
    return ConvNet(3, (16, 32, 32, 64), classes)
