"""A user's file, as load_model meets it."""

import torch
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv, self.norm, self.fc = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


class Pair(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # the mistake that is tested
        return super().forward(x), x


def net(classes: int = 5) -> nn.Module:
    return Net(classes).train()


def pair() -> nn.Module:
    return Pair(5)


def broken() -> nn.Module:
    raise RuntimeError("no such thing\nsecond line")


def number() -> int:
    return 3


def infinite() -> nn.Module:
    made = Net(5)
    with torch.no_grad():
        made.fc.weight[0, :3] = float("nan")
        made.conv.bias[1] = float("inf")
    return made
