"""Networks by what their outputs say, and networks that are no better than chance. Needs what draw_base() and
draw_checkpoints() wrote."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.intake.drawn.recipes import BUILD, PLAIN, QUANTIZE, SIZE, IntakeCase, draw_folder, write_recipe

NETWORKS = '''"""Networks that look at the mean of each colour."""

import torch
from torch import nn


class Channels(nn.Module):
    def __init__(self, picks, end=None):
        super().__init__()
        self.picks, self.end = list(picks), end or nn.Identity()
        self.scale = nn.Conv2d(3, 3, 1)
        nn.init.zeros_(self.scale.bias)
        with torch.no_grad():
            self.scale.weight.copy_(torch.eye(3).view(3, 3, 1, 1))

    def forward(self, x):
        return self.end(8 * self.scale(x).mean((2, 3))[:, self.picks])


class Branch(Channels):
    def forward(self, x):
        scores = super().forward(x)
        return scores if scores.sum() > 0 else 2 * scores


def green() -> nn.Module:
    return Channels([1])


def green_share() -> nn.Module:
    return Channels([1], nn.Sigmoid())


def one_share() -> nn.Module:
    return Channels([1], nn.Softmax(1))


def two() -> nn.Module:
    return Channels([0, 1])


def two_shares() -> nn.Module:
    return Channels([0, 1], nn.Softmax(1))


def three() -> nn.Module:
    return Channels([0, 1, 2])


def three_shares() -> nn.Module:
    return Channels([0, 1, 2], nn.Softmax(1))


def branch() -> nn.Module:
    return Branch([0, 1])
'''
TWO = 'name = "folder"\npath = "two"'
SEVERAL = 'name = "csv"\npath = "several.csv"'
LABELS = {"ant": "a-red", "bee": "b-green", "cat": "c-blue", "dog": "a-red;b-green"}
DARK, BRIGHT = 50, 200
OTHER_ORDER = {"ant": "3-ant", "bee": "0-bee", "cat": "1-cat", "dog": "2-dog"}


def draw_outputs(base: Path) -> list[IntakeCase]:
    (base / "networks.py").write_text(NETWORKS)
    two = draw_folder(base / "two")
    for path in (two / part / name for part in ("train", "test") for name in ("cat", "dog")):
        shutil.rmtree(path)
    rows = [
        f"{path.relative_to(base)},{LABELS[path.parent.name]},{path.parent.parent.name}"
        for path in sorted((base / "data").glob("*/*/*"))
    ]
    (base / "several.csv").write_text("\n".join(("path,label,split", *rows)) + "\n")
    return [*_draw_kinds(base), *_draw_at_chance(base), _draw_deep(base)]


def _draw_kinds(base: Path) -> list[IntakeCase]:
    one_class = shutil.copytree(base / "two", base / "one-class")
    for path in one_class.glob("*/bee"):
        shutil.rmtree(path)
    sigmoid, softmax, logits = (f'\noutput = "{name}"' for name in ("sigmoid", "softmax", "logits"))
    one = "one output, which by softmax"
    cases = (
        (IntakeCase("m-one-logit", "builds"), "green", sigmoid, TWO),
        (IntakeCase("m-one-share", "builds"), "green_share", "", TWO),
        (IntakeCase("m-one-logit-undeclared", "refused", one), "green", "", TWO),
        (IntakeCase("m-one-softmax", "refused", one), "one_share", "", TWO),
        (
            IntakeCase("m-one-class", "refused", "a class folder alone"),
            "green",
            sigmoid,
            TWO.replace("two", "one-class"),
        ),
        (IntakeCase("m-two", "builds"), "two", softmax, TWO),
        (IntakeCase("m-two-logits", "builds"), "two", logits, TWO),
        (IntakeCase("m-two-shares", "builds"), "two_shares", "", TWO),
        (IntakeCase("m-two-contradict", "refused", "ends in a softmax"), "two_shares", sigmoid, TWO),
        (IntakeCase("m-several", "builds"), "three", sigmoid, SEVERAL),
        (IntakeCase("m-several-undeclared", "builds"), "three", "", SEVERAL),
        (IntakeCase("m-several-softmax", "refused", "several labels"), "three_shares", "", SEVERAL),
        (IntakeCase("m-several-one", "refused", "an output for each label"), "green", "", SEVERAL),
    )
    return [
        write_recipe(base, case, f'source = "networks.py:{network}"{output}', data)
        for case, network, output, data in cases
    ]


def _draw_at_chance(base: Path) -> list[IntakeCase]:
    ordered = shutil.copytree(base / "data", base / "ordered")
    for part in ("train", "test"):
        for name, other in OTHER_ORDER.items():
            (ordered / part / name).rename(ordered / part / other)
    wrong = 'source = "net.py:build"\nweights = "timm-ema.pth.tar"\nweights_key = "state_dict"'
    order = IntakeCase("m-order", "refused", "output 0 is 3-ant, 1 is 0-bee, 2 is 1-cat, 3 is 2-dog")
    colours = IntakeCase("m-bgr", "refused", 'order = "rgb"')
    return [
        write_recipe(base, order, data='name = "folder"\npath = "ordered"'),
        write_recipe(base, colours, PLAIN, size=f'{SIZE}\norder = "bgr"'),
        write_recipe(base, IntakeCase("m-wrong-weights", "refused", "no better than chance"), wrong),
        write_recipe(base, IntakeCase("m-any-accuracy", "builds"), wrong, more=f"{BUILD}\nmin_accuracy = 0"),
        write_recipe(
            base,
            IntakeCase("m-least", "refused", "expected at least 100 %"),
            wrong,
            more=f"{BUILD}\nmin_accuracy = 100",
        ),
        write_recipe(base, IntakeCase("m-least-kept", "builds"), more=f"{QUANTIZE}\nmin_accuracy = 80"),
    ]


def _draw_deep(base: Path) -> IntakeCase:
    """PNGs of 16 bits: cut off instead of scaled, dark and bright ones are both white."""
    random = np.random.default_rng(0)
    for part, count in (("train", 40), ("test", 20)):
        for name, level in (("dark", DARK), ("light", BRIGHT)):
            (place := base / "deep" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = random.normal(level, 20, (32, 32)).clip(0, 255).astype(np.uint16) * 257
                Image.fromarray(pixels).save(place / f"{number}.png")
    model = 'source = "networks.py:green"\noutput = "sigmoid"'
    return write_recipe(base, IntakeCase("d-deep", "builds"), model, 'name = "folder"\npath = "deep"')
