"""Models and folders for `init`: untrained networks, and one that answers by colour without any training."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

COLOURS = {"blue": (40, 50, 200), "green": (60, 190, 70), "red": (210, 60, 40)}
NETWORK = '''
import torch
from torch import nn


class Colours(nn.Module):
    """Answers blue, green or red by the channel that is brightest, of values that it was given normalized."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.eye(3).flip(0))

    def forward(self, x):
        return x.mean((2, 3)) @ self.weight.T


def colours():
    return Colours()
'''


def draw_folder(folder: Path, count: int = 24, side: int = 16, grey: bool = False) -> Path:
    """A folder for each of COLOURS, `count` images in each."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = (np.array(colour) + random.normal(0, 20, (side, side, 3))).clip(0, 255).astype(np.uint8)
            image = Image.fromarray(pixels)
            (image.convert("L") if grey else image).save(folder / name / f"{number:02}.png")
    return folder


def train_network(net: nn.Module, folder: Path, order: str, divide: float, updates: int = 40) -> nn.Module:
    """A few updates on all images of `folder`, bytes in `order` divided by `divide`."""
    torch.manual_seed(0)
    pixels, labels = [], []
    for label, place in enumerate(sorted(folder.iterdir())):
        for path in sorted(place.iterdir()):
            image = np.asarray(Image.open(path).convert("RGB"))
            pixels.append(image[..., ::-1] if order == "bgr" else image)
            labels.append(label)
    values = torch.from_numpy(np.stack(pixels).astype(np.float32) / divide).permute(0, 3, 1, 2)
    optimizer = torch.optim.Adam(net.parameters(), 5e-3)
    net.train()
    for _ in range(updates):
        loss = nn.functional.cross_entropy(net(values), torch.tensor(labels))
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return net.eval()
