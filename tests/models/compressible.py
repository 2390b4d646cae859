"""A user's file of models that pruning narrows in every way that a weights file can record."""

import torch
from torch import Tensor, nn
from torchvision.models import DenseNet


class Mixed(nn.Module):
    """Grouped and depthwise convolutions, three kinds of normalization, PReLU, a bare parameter."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.factor = 1.0
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.GroupNorm(4, 16), nn.PReLU(16))
        self.body = nn.Sequential(nn.Conv2d(16, 16, 3, groups=16), nn.BatchNorm2d(16), nn.Conv2d(16, 32, 1))
        self.grouped = nn.Conv2d(32, 32, 3, groups=4)
        self.scale = nn.Parameter(torch.full((32, 1, 1), 1.5))
        self.norm, self.fc = nn.LayerNorm(32), nn.Linear(32, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = self.grouped(self.body(self.stem(x)).relu()) * self.scale
        return self.fc(self.norm(y.mean((2, 3)))) * self.factor


def mixed(classes: int = 5) -> nn.Module:
    return Mixed(classes)


def dense() -> nn.Module:
    """Concatenations, as DenseNet-121's; that takes a minute to prune."""
    return DenseNet(8, (2, 2), 16, num_classes=5)
