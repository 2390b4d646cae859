"""Networks with one logit and with labels that do not exclude each other, trained here in seconds, and recipes of them:
right ones, and wrong ones that a build has to refuse.

    python -m benchmarks.intake.drawn.heads FOLDER

An image has blocks of up to three colours. One network says whether it has a blue one, another which colours it has.
Also writes the images that are asked for, and torch's probabilities.
"""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.intake.drawn.recipes import MEAN, NETWORK, SIDE, STD

COLOURS = {"blue": 2, "green": 1, "red": 0}  # in sorted order, with the channel that is bright
ONE, SEVERAL = "one", "several"
TRAIN, TEST, ASKED = 600, 200, 40
EPOCHS, BATCH, RATE = 15, 50, 1e-2
RECIPE = """
name = "{name}"
[model]
source = "net.py:build"
weights = "{weights}"
options = {{ classes = {outputs} }}
{model}
[input]
height = {side}
width = {side}
mean = [{mean}]
std = [{std}]
{input}
[data]
{data}
{more}
"""
TWO_FOLDERS = 'name = "folder"\npath = "folders"'
SIGMOID = 'output = "sigmoid"'


def draw_heads(folder: Path) -> None:
    (folder / "net.py").write_text(NETWORK)
    torch.set_num_threads(1)  # so small a network is slower by more
    random = np.random.default_rng(19)
    truth = random.integers(0, 2, (TRAIN + TEST, len(COLOURS)))
    images = np.stack([draw_blocks(random, has) for has in truth])
    _write_images(folder, images, truth)
    inputs, labels = _normalize(images), torch.tensor(truth, dtype=torch.float32)
    blue = labels[:, :1]
    weights = {ONE: blue, SEVERAL: labels, f"{ONE}-wrong-weights": labels[:, 1:2]}
    for name, wanted in weights.items():
        net = _train(folder, inputs[:TRAIN], wanted[:TRAIN])
        torch.save(net.state_dict(), folder / f"{name}.pth")
        if name in (ONE, SEVERAL):
            with torch.no_grad():
                shares = torch.sigmoid(net(inputs[TRAIN : TRAIN + ASKED])).numpy()
            np.savez(folder / f"{name}.npz", allow_pickle=False, shares=shares)
        if name == SEVERAL:  # as if its head had never been trained
            nn.init.zeros_(list(net.parameters())[-1])
            nn.init.zeros_(list(net.parameters())[-2])
            torch.save(net.state_dict(), folder / f"{SEVERAL}-wrong-weights.pth")
    np.savez(folder / "asked.npz", allow_pickle=False, images=images[TRAIN : TRAIN + ASKED])
    _write_recipes(folder)


def draw_blocks(random: np.random.Generator, has: Sequence[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A dark image with a block of each colour that it has; a later one may hide a part of an earlier one."""
    pixels = random.normal(60, 15, (SIDE, SIDE, 3))
    for channel, present in zip(COLOURS.values(), has, strict=True):
        row, column = random.integers(0, SIDE - 12, 2)
        if present:
            pixels[row : row + 12, column : column + 12, channel] += 150
    return pixels.clip(0, 255).astype(np.uint8)


def _normalize(images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    return (torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def _train(folder: Path, inputs: Tensor, wanted: Tensor) -> nn.Module:
    torch.manual_seed(0)
    scope: dict[str, type[nn.Module]] = {}
    exec((folder / "net.py").read_text(), scope)
    net: nn.Module = scope["build"](wanted.shape[1])
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH):  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(net(inputs[rows]), wanted[rows])
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            optimizer.step()
    return net.eval()


def _write_images(
    folder: Path,
    images: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    truth: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> None:
    """As two class folders, as a list of all colours, and as lists in which the classes sort in another order."""
    lists: dict[str, list[tuple[str, str, str]]] = {"labels.csv": [], "turned.csv": [], "swapped.csv": []}
    turned = dict(zip(COLOURS, ("z-blue", "green", "a-red"), strict=True))
    for number, (image, has) in enumerate(zip(images, truth, strict=True)):
        split = "train" if number < TRAIN else "test"
        path = folder / "folders" / split / ("some-blue" if has[0] else "no-blue") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
        names, place = (
            [name for name, present in zip(COLOURS, has, strict=True) if present],
            str(path.relative_to(folder)),
        )
        lists["labels.csv"].append((place, ";".join(names), split))
        lists["turned.csv"].append((place, ";".join(turned[name] for name in names), split))
        lists["swapped.csv"].append((place, "blue" if has[0] else "without", split))
    for name, rows in lists.items():
        with (folder / name).open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([("path", "label", "split"), *rows])


def _write_recipes(folder: Path) -> None:
    def write(name: str, outputs: int, data: str, weights: str = "", **parts: str) -> None:
        known: Mapping[str, str] = {"model": "", "input": "", "more": "", **parts}
        text = RECIPE.format(
            name=name,
            outputs=outputs,
            data=data,
            weights=f"{weights or name}.pth",
            side=SIDE,
            mean=MEAN,
            std=STD,
            **known,
        )
        (folder / f"{name}.toml").write_text(text)

    listed = 'name = "csv"\npath = "{}.csv"'
    labels, bgr = listed.format("labels"), 'order = "bgr"'
    int8 = '[[step]]\nquantize = {}\n[build]\nprefer = "size"\nmax_accuracy_loss = 5'
    for suffix, more in {"": '[build]\nprecisions = ["fp32"]', "-int8": int8}.items():
        write(f"{ONE}{suffix}", 1, TWO_FOLDERS, ONE, model=SIGMOID, more=more)
        write(f"{SEVERAL}{suffix}", 3, labels, SEVERAL, more=more)
    write("one-other-order", 1, listed.format("swapped"), ONE, model=SIGMOID)
    write("one-bgr", 1, TWO_FOLDERS, ONE, model=SIGMOID, input=bgr)
    write("one-wrong-weights", 1, TWO_FOLDERS, model=SIGMOID)
    write("one-softmax", 1, TWO_FOLDERS, ONE)
    write("several-other-order", 3, listed.format("turned"), SEVERAL)
    write("several-bgr", 3, labels, SEVERAL, input=bgr)
    write("several-wrong-weights", 3, labels)
    write("several-softmax", 3, labels, SEVERAL, model='output = "softmax"')


if __name__ == "__main__":
    draw_heads(Path(sys.argv[1]))
