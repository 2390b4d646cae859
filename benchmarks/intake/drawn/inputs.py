"""Recipes without labelled images, with a training's own transform, and with steps that a network cannot take.

Needs what draw_base() and draw_outputs() wrote.
"""

import shutil
from pathlib import Path

from benchmarks.intake.drawn.outputs import TWO
from benchmarks.intake.drawn.recipes import BUILD, PLAIN, QUANTIZE, IntakeCase, write_recipe

TRAIN = '''"""What a training script does to the images that it is validated on."""

import numpy as np
import torch
from torchvision import transforms
from torchvision.transforms import v2

SCALE = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
first = transforms.Compose(
    [transforms.Resize(36), transforms.CenterCrop(32), transforms.ToTensor(), transforms.Normalize(*SCALE)]
)
second = v2.Compose([
    v2.ToImage(), v2.Resize((32, 32), antialias=True), v2.ToDtype(torch.float32, scale=True), v2.Normalize(*SCALE),
])
random = transforms.Compose([transforms.RandomCrop(24), transforms.ToTensor()])
sizes = transforms.ToTensor()


def by_hand(image):
    return (np.asarray(image.resize((32, 32))).transpose(2, 0, 1) / 255 - 0.5) / 0.25


def gray(image):
    return first(image.convert("L").convert("RGB"))
'''
PHOTOS = 'name = "images"\npath = "photos"'


def draw_inputs(base: Path) -> list[IntakeCase]:
    return [*_draw_transforms(base), *_draw_unlabelled(base), *_draw_steps(base)]


def _draw_transforms(base: Path) -> list[IntakeCase]:
    (base / "train.py").write_text(TRAIN)
    cases = {
        "first": IntakeCase("i-torchvision", "builds"),
        "second": IntakeCase("i-torchvision-v2", "builds"),
        "by_hand": IntakeCase("i-function", "builds"),
        "random": IntakeCase("i-random", "refused", "another result each time"),
        "absent": IntakeCase("i-absent", "refused", "no function or transform 'absent'"),
        "gray": IntakeCase("i-gray", "refused", "train.py:gray"),
    }
    written = [write_recipe(base, case, size=_by(name)) for name, case in cases.items()]
    other = IntakeCase("i-contradict", "refused", "remove resize, or transform")
    return [*written, write_recipe(base, other, size=f"{_by('first')}\nresize = 40")]


def _by(name: str) -> str:
    return f'transform = "train.py:{name}"'


def _draw_unlabelled(base: Path) -> list[IntakeCase]:
    for at, path in enumerate(sorted((base / "data" / "train").glob("*/*"))):
        (base / "photos" / str(at % 3)).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, base / "photos" / str(at % 3) / f"{at}.png")
    shutil.copytree(base / "data" / "test", base / "test-alone" / "test")
    photos = '[calibration]\nimages = "photos"\n'
    finetune = f"[[step]]\nfinetune = {{ epochs = 1 }}\n{BUILD}"
    cases = (
        (IntakeCase("n-nothing", "builds"), "", BUILD),
        (IntakeCase("n-images", "builds"), "", f"{photos}{QUANTIZE}"),
        (IntakeCase("n-quantize", "refused", "[calibration] images"), "", QUANTIZE),
        (IntakeCase("n-finetune", "refused", "needs labelled images"), "", finetune),
        (IntakeCase("n-absent", "refused", "no such folder"), "", f'[calibration]\nimages = "gone"\n{QUANTIZE}'),
        (IntakeCase("n-unlabelled-data", "refused", "put it under [calibration]"), PHOTOS, QUANTIZE),
        (IntakeCase("n-test-alone", "builds"), 'name = "folder"\npath = "test-alone"', QUANTIZE.replace("64", "16")),
    )
    return [write_recipe(base, case, data=data, more=more) for case, data, more in cases]


def _draw_steps(base: Path) -> list[IntakeCase]:
    """Of networks with random weights, whose accuracy is no matter."""
    finetune, anything = "[[step]]\nfinetune = { epochs = 1 }\n", "[build]\nmax_accuracy_loss = 100.0\nmin_accuracy = 0"
    prune = "[[step]]\nprune_channels = { ratio = 0.5, round_to = 1 }\n"
    shuffle = 'source = "torchvision:shufflenet_v2_x0_5"\nweights = "random"'
    branch = 'source = "networks.py:branch"'
    cases = (
        (IntakeCase("s-prune", "builds"), PLAIN, prune + anything, ""),
        (IntakeCase("s-prune-shuffled", "builds"), shuffle, prune + anything, ""),
        (IntakeCase("s-cannot-export", "refused", "cannot be exported"), branch, finetune + anything, TWO),
        (IntakeCase("s-cannot-export-either", "refused", "cannot be exported"), branch, anything, TWO),
        (IntakeCase("s-unknown", "refused", "quantise"), PLAIN, f"[[step]]\nquantise = {{}}\n{BUILD}", ""),
        (
            IntakeCase("s-option", "refused", "ration"),
            PLAIN,
            f"[[step]]\nprune_channels = {{ ration = 0.5 }}\n{BUILD}",
            "",
        ),
    )
    return [
        write_recipe(base, case, model, more=more, **({"data": data} if data else {}))
        for case, model, more, data in cases
    ]
