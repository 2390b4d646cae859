"""A classifier's last layer: found by running the model, replaced for another class count.

Knows no architecture by name, except the places of auxiliary classifiers, which do not run in evaluation mode.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolchain.compress.metrics import example_input
from toolchain.errors import RecipeError
from toolchain.models.eval_mode import evaluation_mode, temporary_hooks
from toolchain.records.tensors import Preprocessing

AUXILIARY_HEADS = ("AuxLogits.fc", "aux1.fc2", "aux2.fc2")  # torchvision's Inception-v3 and GoogLeNet
WeightLayer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class ClassifierHead:
    """The classifier layer, its dotted name within the module, and its class count."""

    name: str
    layer: WeightLayer
    classes: int


def find_head(module: nn.Module, preprocessing: Preprocessing) -> ClassifierHead:
    """The last Linear or Conv2d that runs and is as wide as the output: `fc` of a ResNet, `classifier.1` of a
    MobileNet, the convolution in SqueezeNet's classifier. RecipeError when there is none."""
    ran: list[tuple[str, WeightLayer]] = []
    hooks = [
        layer.register_forward_hook(lambda *_, at=(name, layer): ran.append(at))
        for name, layer in module.named_modules()
        if isinstance(layer, WeightLayer)
    ]
    with temporary_hooks(hooks), evaluation_mode(module), torch.no_grad():
        answer: Tensor = module(example_input(module, preprocessing))
    for name, layer in reversed(ran):
        if output_width(layer) == answer.shape[1]:
            return ClassifierHead(name, layer, output_width(layer))
    raise RecipeError(f"no classifier found: no Linear or Conv2d of the model produces its {answer.shape[1]} outputs")


def output_width(layer: WeightLayer) -> int:
    """Output features or channels."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def attach_head(module: nn.Module, preprocessing: Preprocessing, classes: int) -> nn.Module:
    """`module` with a new classifier for `classes` classes, and new auxiliary classifiers. Changes `module` in place,
    unless it consists of its head alone. Initial weights come from torch's current random state."""
    head = find_head(module, preprocessing)
    if not head.name:
        return _new_classifier(head.layer, classes)
    module.set_submodule(head.name, _new_classifier(head.layer, classes))
    for name, layer in list(module.named_modules()):
        if name in AUXILIARY_HEADS and isinstance(layer, WeightLayer):
            module.set_submodule(name, _new_classifier(layer, classes))
    return module


def _new_classifier(layer: WeightLayer, classes: int) -> WeightLayer:
    device, bias = layer.weight.device, layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, classes, bias, device=device)
    shape: Any = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding")}  # torch types them loosely
    return nn.Conv2d(layer.in_channels, classes, bias=bias, device=device, **shape)
