"""Where a model's stages end, and layers that are named."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.compress.nets import PREPROCESSING, context, tiny
from toolchain.compress.distillation.features import capture_features, find_stage_ends
from toolchain.compress.distillation.layer_pairs import pair_layers
from toolchain.compress.step import CompressedModel, Step
from toolchain.compress.steps.distill_attention import DistillAttention
from toolchain.compress.steps.distill_hints import DistillHints
from toolchain.compress.steps.distill_self import DistillSelf
from toolchain.errors import RecipeError
from toolchain.models.cifar import cifar_network
from toolchain.models.torchvision import random_network
from toolchain.records.tensors import Preprocessing

CIFAR, PHOTO = Preprocessing(32, 32), Preprocessing(224, 224)


def ends(module: nn.Module, preprocessing: Preprocessing) -> list[tuple[str, int]]:
    return [(one.name, one.height) for one in find_stage_ends(module.eval(), preprocessing, "the model")]


def test_a_resnets_stages_end_where_the_next_block_makes_images_smaller() -> None:
    assert ends(cifar_network("resnet20", 10), CIFAR) == [("stages.0.2", 32), ("stages.1.2", 16), ("stages.2.2", 8)]
    assert ends(cifar_network("resnet8", 10), CIFAR) == [("stages.0.0", 32), ("stages.1.0", 16), ("stages.2.0", 8)]


def test_a_vggs_stages_end_before_its_poolings() -> None:
    assert ends(cifar_network("vgg11", 10), CIFAR) == [
        ("features.2", 32),
        ("features.6", 16),
        ("features.13", 8),
        ("features.20", 4),
        ("features.27", 2),
    ]


def test_a_block_is_not_looked_into() -> None:
    """MobileNet's blocks widen before they shrink; the wide map is inside a block and ends no stage."""
    with torch.device("meta"):
        wanted = [name for name, _ in random_network("mobilenet_v2", 10, {}).named_children()]
    found = ends(random_network("mobilenet_v2", 10, {}), Preprocessing(64, 64))
    assert wanted == ["features", "classifier"]
    assert [name for name, _ in found] == ["features.1", "features.3", "features.6", "features.13", "features.18.2"]


class Boxed(nn.Module):
    """A model whose layers lie in one box that is no chain."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Box()
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.box(x).mean((2, 3)))
        return logits


class Box(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3 if n == 0 else 8, 8, 3, 2, 1) for n in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def test_what_shrinks_more_than_by_half_is_looked_into() -> None:
    assert ends(Boxed(), PREPROCESSING) == [("box.layers.0", 4), ("box.layers.1", 2)]


def test_stages_are_paired_from_the_deepest(tmp_path: Path) -> None:
    place = context(tmp_path, preprocessing=CIFAR)
    pairs = pair_layers(cifar_network("resnet8", 10).eval(), (cifar_network("vgg11", 10).eval(),), (), (), place)
    assert [(one.student_layer.name, one.teacher_layer.name) for one in pairs] == [
        ("stages.0.0", "features.13"),
        ("stages.1.0", "features.20"),
        ("stages.2.0", "features.27"),
    ]


def test_seen_gives_what_goes_in_or_comes_out_and_leaves_no_hook() -> None:
    model, images = tiny(), torch.randn(2, 3, 8, 8)
    answers, (out,) = capture_features(model, images, ["stem"])
    _, (into,) = capture_features(model, images, ["body"], "input")
    assert torch.equal(out, into)
    assert torch.equal(answers, model(images))  # type: ignore[arg-type]  # a model without auxiliary classifiers
    assert not any(layer._forward_hooks for layer in model.modules())


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (DistillHints(layers=("boddy",)), "layers: the student has no layer 'boddy'; the nearest are: body"),
        (
            DistillAttention(layers=("head",)),
            "layers: layer 'head' of the student does not output [N, C, H, W]; name a conv",
        ),
        (DistillSelf(layers=("stem", "boddy")), "layers: the model has no layer 'boddy'; the nearest are: body"),
        (
            DistillHints(layers=("stem",), teacher_layers=("stm",)),
            "teacher_layers: the teacher has no layer 'stm'; the nearest are: stem",
        ),
        (
            DistillHints(layers=("stem",), teacher_layers=("stem", "body")),
            "teacher_layers names 2 layers, layers 1; expected the same number",
        ),
    ],
)
def test_a_layer_that_is_not_there_is_named_with_the_nearest(step: Step, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        step.dry_run(CompressedModel(tiny()), context(tmp_path, original=tiny))
    assert str(error.value).startswith(message)


def test_a_model_without_stages_is_refused(tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 4)).eval()
    with pytest.raises(RecipeError, match=r"^no stages found in the model: no layer outputs \[N, C, H, W\] larger"):
        DistillSelf().dry_run(CompressedModel(flat), context(tmp_path))
    with pytest.raises(RecipeError, match=r"^found only one stage in the model, 0; name the exits: layers = "):
        whole = nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
        DistillSelf().dry_run(CompressedModel(whole), context(tmp_path))
