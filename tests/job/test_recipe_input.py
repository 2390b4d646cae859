"""[input] transform: found, printed as lines, kept, and held against what the recipe writes beside it."""

from pathlib import Path

import pytest

from tests.job.test_job import RECIPE, folder, recipe
from toolchain.build.pipeline import build
from toolchain.errors import AccuracyError, RecipeError
from toolchain.job.job import read_job
from toolchain.records.tensors import Preprocessing

__all__ = ["folder"]  # the fixture
TRAIN = """
from torchvision import transforms

eval_transform = transforms.Compose([
    transforms.Resize(11, transforms.InterpolationMode.BICUBIC),
    transforms.CenterCrop(8),
    transforms.ToTensor(),
    transforms.Normalize([0.5, 0.4, 0.3], [0.25, 0.25, 0.25]),
])

def upside_down(image):
    return eval_transform(image).flip(1)
"""
BY_TRANSFORM = RECIPE.replace("height = 8\nwidth = 8", 'transform = "train.py:eval_transform"')
FOUND = Preprocessing(8, 8, mean=(0.5, 0.4, 0.3), std=(0.25,), resize=11, filter="bicubic")
# White above is one class, white below the other; as the net saw them in training, upside down.
UPRIGHT_OR_NOT = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        above, below = x[:, :, :4].mean((1, 2, 3)), x[:, :, 4:].mean((1, 2, 3))
        return torch.stack([below, above], 1) * self.scale

def net():
    return Net()
"""


def test_the_input_is_found_printed_and_kept(folder: Path, messages: list[str]) -> None:
    (folder / "train.py").write_text(TRAIN)
    job = read_job(recipe(folder, text=BY_TRANSFORM), "null")
    assert job.recipe.input == FOUND and type(job.recipe.input) is Preprocessing
    assert job.data.split("test").images[:2].shape == (2, 8, 8, 3)
    assert job.match is not None and job.match.mean < 0.1
    lines = ["height = 8", "width = 8", "mean = [0.5, 0.4, 0.3]", "std = [0.25]", "resize = 11", 'filter = "bicubic"']
    assert [message.strip() for message in messages[-6:]] == lines
    assert "input: train.py:eval_transform is equal to these lines of [input], " in messages[-7]
    read_job(recipe(folder, text=BY_TRANSFORM), "null")
    assert "input: what train.py:eval_transform does to an image: unchanged" in messages
    written = RECIPE.replace("height = 8\nwidth = 8", "\n".join(lines))
    assert read_job(recipe(folder, text=written), "null").recipe.input == FOUND


def test_a_written_key_that_says_something_else_is_refused(folder: Path) -> None:
    (folder / "train.py").write_text(TRAIN)
    agreeing = BY_TRANSFORM.replace('eval_transform"', 'eval_transform"\nheight = 8\nresize = 11')
    assert read_job(recipe(folder, text=agreeing), "null").recipe.input == FOUND
    with pytest.raises(
        RecipeError, match=r"input: resize = 12, but train\.py:eval_transform has 11; remove resize, or"
    ):
        read_job(recipe(folder, text=agreeing.replace("resize = 11", "resize = 12")), "null")


def test_what_input_cannot_say_is_refused_with_what_it_costs(folder: Path) -> None:
    from PIL import Image

    (folder / "train.py").write_text(TRAIN)
    (folder / "nets.py").write_text(UPRIGHT_OR_NOT)
    for label, rows in {"a": slice(0, 4), "b": slice(4, 8)}.items():
        image = Image.new("RGB", (8, 8))
        image.paste((255, 255, 255), (0, rows.start, 8, rows.stop))
        for number in range(10):
            (folder / "halves" / label).mkdir(parents=True, exist_ok=True)
            image.save(folder / "halves" / label / f"{number}.png")
    text = BY_TRANSFORM.replace("eval_transform", "upside_down").replace("pictures", "halves")
    with pytest.raises(
        AccuracyError, match=r"the nearest that \[input\] can say loses 100.00 points, at most 0.5"
    ) as error:
        build(recipe(folder, text=text), "null", None)
    assert "100.00% right by train.py:upside_down, 0.00% by [input], on " in str(error.value)
    assert "\n" not in str(error.value) and "; move into the model what it cannot say" in str(error.value)
