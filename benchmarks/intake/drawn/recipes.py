"""What every drawn case starts from: images of four colours, a network that tells them apart, a recipe.

Knows no case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

Verdict = Literal["builds", "refused"]
CLASSES = ("ant", "bee", "cat", "dog")
COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [180, 180, 60]])
SIDE, NOISE, TRAIN, TEST = 32, 45, 40, 20
MEAN, STD, STEPS = 0.5, 0.25, 40
NETWORK = '''"""A network of two convolutions."""

from torch import nn


def build(classes: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, classes),
    )
'''
PLAIN = 'source = "net.py:build"\nweights = "plain.pt"'
FOLDER = 'name = "folder"\npath = "data"'
NORMALIZED = f"mean = [{MEAN}]\nstd = [{STD}]"
SIZE = f"height = {SIDE}\nwidth = {SIDE}\n{NORMALIZED}"
BUILD = "[build]\nmax_accuracy_loss = 5.0"
QUANTIZE = f"[[step]]\nquantize = {{ samples = 64 }}\n{BUILD}"
Write = Callable[[Image.Image, Path], None]


@dataclass(frozen=True)
class IntakeCase:
    """A recipe `NAME.toml` that a draw function wrote. says: what the one line of a refusal must name."""

    name: str
    verdict: Verdict
    says: str = ""


def draw_image(random: np.random.Generator, label: int) -> Image.Image:
    pixels = random.normal(COLOURS[label], NOISE, (SIDE, SIDE, 3)).clip(0, 255)
    return Image.fromarray(pixels.astype(np.uint8))


def draw_arrays(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % len(CLASSES)
    return np.stack([np.asarray(draw_image(random, int(label))) for label in labels]), labels


def draw_folder(folder: Path, suffix: str = "png", write: Write = lambda image, path: image.save(path)) -> Path:
    random = np.random.default_rng(3)
    for part, count in (("train", TRAIN), ("test", TEST)):
        for label, name in enumerate(CLASSES):
            (place := folder / part / name).mkdir(parents=True)
            for number in range(count):
                write(draw_image(random, label), place / f"{number:03}.{suffix}")
    return folder


def train(base: Path) -> nn.Module:
    """The network, which tells the colours apart."""
    names: dict[str, Callable[[], nn.Module]] = {}
    exec(compile(NETWORK, str(base / "net.py"), "exec"), names)
    torch.manual_seed(0)
    module = names["build"]().train()
    images, labels = draw_arrays(320, 1)
    x, y = (torch.tensor(images).permute(0, 3, 1, 2) / 255 - MEAN) / STD, torch.tensor(labels)
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    for step in range(STEPS):
        part = torch.arange(step * 32, step * 32 + 32) % len(y)
        loss = nn.functional.cross_entropy(module(x[part]), y[part])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
    return module.eval()


def recipe_text(name: str, model: str = PLAIN, data: str = FOLDER, size: str = SIZE, more: str = QUANTIZE) -> str:
    """size: of `[input]`, beside mean and std; more: what comes after `[data]`; data: '' for a recipe without."""
    table = f"[data]\n{data}" if data else ""
    return f"""name = "{name}"
[model]
{model}
[input]
{size}
{table}
{more}
"""


def write_recipe(
    base: Path, case: IntakeCase, model: str = PLAIN, data: str = FOLDER, size: str = SIZE, more: str = QUANTIZE
) -> IntakeCase:
    (base / f"{case.name}.toml").write_text(recipe_text(case.name, model, data, size, more))
    return case


def draw_base(base: Path) -> nn.Module:
    """What all cases share: net.py, plain.pt and data/."""
    (base / "net.py").write_text(NETWORK)
    draw_folder(base / "data")
    module = train(base)
    torch.save(module.state_dict(), base / "plain.pt")
    return module
