"""Small models, some of which cannot be exported."""

import numpy as np
import torch
from torch import Tensor, nn


class Small(nn.Module):
    """Convolution, BatchNorm, and a linear head for images of any size."""

    def __init__(self, channels: int = 3, classes: int = 4) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)
        self.norm.running_mean = torch.linspace(-0.1, 0.1, 8)
        self.norm.running_var = torch.linspace(0.5, 1.5, 8)

    def features(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class Branches(Small):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if x.sum() > 0:
            x = x * 2
        return self.head(x)


class Bessel(Small):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        x = torch.special.bessel_j0(x)
        return self.head(x)


class LeavesTorch(Small):
    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(torch.from_numpy(np.sin(x.numpy())))


class FixedBatch(Small):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).reshape(2, 8))


class Noisy(Small):
    """Returns different outputs every time, which an exported graph cannot reproduce."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.head(x + torch.rand_like(x))
