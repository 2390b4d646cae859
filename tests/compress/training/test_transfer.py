"""Transfer learning on every model that the zoo and the examples have: random weights, small images."""

from pathlib import Path

import numpy as np
import pytest
import torch

from toolchain.compress.step import CompressedModel, StepContext
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.training.freezing import layer_stages
from toolchain.compress.training.head import find_head
from toolchain.data import DataSet, Split
from toolchain.models.load import load_model
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing

EXAMPLES = Path(__file__).parents[3] / "examples"
# Each with the stages that layer_lr_decay tells apart
NETS = {
    "torchvision:vgg16": 15,
    "torchvision:inception_v3": 16,
    "torchvision:resnet34": 5,
    "torchvision:resnet50": 5,
    "torchvision:mobilenet_v2": 19,
    "torchvision:mobilenet_v3_small": 14,
    "torchvision:densenet121": 8,
    "torchvision:efficientnet_b0": 9,
    "torchvision:squeezenet1_1": 9,
    "efficientnet_lite0/model.py:efficientnet_lite0": 18,
}


MARKS = {
    "torchvision:vgg16": pytest.mark.exhaustive,  # a checkpoint of 550 MB
    "efficientnet_lite0/model.py:efficientnet_lite0": pytest.mark.slow,  # weights that are fetched
}


@pytest.mark.parametrize("source", [pytest.param(one, marks=MARKS.get(one, ())) for one in NETS])
def test_a_new_head_learns_on_a_frozen_backbone(source: str, tmp_path: Path) -> None:
    side = 96 if "inception" in source else 64
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (4, side, side, 3), np.uint8)
    part = Split(images, np.array([0, 1, 2, 0]), np.arange(4))
    shape = Preprocessing(side, side, 3, (0.5,) * 3, (0.25,) * 3)
    place = StepContext(DataSet("made", ("a", "b", "c"), "test", "0" * 64, {"train": part}), shape, tmp_path)
    weights = "random" if source.startswith("torchvision") else "own"
    model = load_model(ModelSpec(source, weights), shape, 3, EXAMPLES, allow_other_head=True).require_module()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step = Finetune(epochs=1, batch_size=4, replace_head=True, freeze="backbone", layer_lr_decay=0.9, lr=1e-3)
    step.check(place)
    after = step.apply(CompressedModel(model), place).module
    head = find_head(after, shape)
    assert head.classes == 3
    assert len(layer_stages(after, head.name)) == NETS[source]
    changed = {name for name, tensor in after.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name.rpartition(".")[0] for name in changed} <= {head.name, "AuxLogits.fc"}
