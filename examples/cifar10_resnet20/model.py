"""ResNet-20 for CIFAR-10 (He et al. 2016, section 4.2; 1x1 projection shortcuts), as a user would write it.

Takes float32 [N, 3, 32, 32], normalized by the data set's mean and deviation; gives logits [N, 10].
"""

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

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
        return self.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, three stages of `blocks` blocks at widths 16, 32, 64, and a linear head."""

    def __init__(self, blocks: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True))
        widths = (16, 16, 32, 64)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    *(
                        Block(widths[s] if b == 0 else widths[s + 1], widths[s + 1], 2 if s and not b else 1)
                        for b in range(blocks)
                    )
                )
                for s in range(3)
            )
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))


def resnet20(classes: int = 10) -> nn.Module:
    """ResNet-20: 0.27 M parameters, 41 M multiply-accumulates."""
    return ResNet(3, classes)
