import pytest
import torch
import torchvision
from torch import nn

from tests.compress.nets import PREPROCESSING, tiny
from toolchain.compress.training.head import attach_head, find_head, output_width
from toolchain.errors import RecipeError
from toolchain.records.tensors import Preprocessing

ZOO = {
    "vgg16": "classifier.6",
    "inception_v3": "fc",
    "resnet34": "fc",
    "resnet50": "fc",
    "mobilenet_v2": "classifier.1",
    "mobilenet_v3_large": "classifier.3",
    "densenet121": "classifier",
    "efficientnet_b0": "classifier.1",
    "squeezenet1_1": "classifier.1",
}


@pytest.mark.parametrize("name", ZOO)
def test_the_head_of_every_zoo_family_is_found_and_replaced(name: str) -> None:
    size = 299 if name == "inception_v3" else 224
    preprocessing = Preprocessing(size, size)
    with torch.device("meta"):  # shapes without weights: nothing is allocated or computed
        options = {"init_weights": False} if name == "inception_v3" else {}
        module = torchvision.models.get_model(name, weights=None, **options)
    assert find_head(module, preprocessing).name == ZOO[name]
    head = find_head(attach_head(module, preprocessing, 7), preprocessing)
    assert (head.name, head.classes, output_width(head.layer)) == (ZOO[name], 7, 7)
    assert head.layer.weight.device.type == "meta"
    if name == "inception_v3":
        assert module.AuxLogits.fc.out_features == 7


def test_the_head_of_ones_own_model_is_its_last_linear_that_runs() -> None:
    class Odd(nn.Module):
        """Declares its layers in another order than they run, and one that never does."""

        def __init__(self) -> None:
            super().__init__()
            self.last, self.first, self.idle = nn.Linear(8, 4), nn.Linear(192, 8), nn.Linear(8, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = self.last(self.first(x.flatten(1)))
            return answer

    assert find_head(Odd(), PREPROCESSING).name == "last"


def test_a_new_head_leaves_modes_and_the_rest_alone() -> None:
    before, after = tiny(), attach_head(tiny().train(), PREPROCESSING, 9)
    assert after.training
    assert torch.equal(before.state_dict()["body.0.weight"], after.state_dict()["body.0.weight"])
    assert after.state_dict()["head.bias"].shape == (9,)


def test_a_model_that_is_only_a_head_gets_another() -> None:
    assert find_head(nn.Sequential(nn.Flatten(), nn.Linear(192, 5)), PREPROCESSING).name == "1"


def test_a_model_without_a_classifier_is_refused() -> None:
    with pytest.raises(
        RecipeError, match="no classifier found: no Linear or Conv2d of the model produces its 192 outputs"
    ):
        find_head(nn.Flatten(), PREPROCESSING)
