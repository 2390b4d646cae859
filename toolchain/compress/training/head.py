"""The layer that makes a classifier's logits: found by running the network, replaced for another class count.

Knows no architecture by name, except where auxiliary classifiers hide (they do not run in evaluation).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from toolchain.compress.metrics import one_picture
from toolchain.errors import RecipeError
from toolchain.models.eval_mode import evaluating, hooked
from toolchain.records.tensors import Preprocessing

AUXILIARY = ("AuxLogits.fc", "aux1.fc2", "aux2.fc2")  # torchvision's Inception-v3 and GoogLeNet
Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Head:
    """The classifier: its name within the module (dotted), the layer, and how many classes it tells apart."""

    name: str
    layer: Layer
    classes: int


def head_of(module: nn.Module, preprocessing: Preprocessing) -> Head:
    """The last Linear or Conv2d that runs and is as wide as the output: `fc` of a ResNet, `classifier.1` of a
    MobileNet, the convolution in SqueezeNet's classifier. RecipeError when there is none."""
    ran: list[tuple[str, Layer]] = []
    hooks = [
        layer.register_forward_hook(lambda *_, at=(name, layer): ran.append(at))
        for name, layer in module.named_modules()
        if isinstance(layer, Layer)
    ]
    with hooked(hooks), evaluating(module), torch.no_grad():
        answer: Tensor = module(one_picture(module, preprocessing))
    for name, layer in reversed(ran):
        if width(layer) == answer.shape[1]:
            return Head(name, layer, width(layer))
    raise RecipeError(f"no classifier found: no Linear or Conv2d of the model makes its {answer.shape[1]} outputs")


def width(layer: Layer) -> int:
    """Output features or channels."""
    return layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels


def with_head(module: nn.Module, preprocessing: Preprocessing, classes: int) -> nn.Module:
    """`module` with a fresh classifier for `classes` classes, auxiliary classifiers too. Changes `module` itself,
    unless it is nothing but its head. The weights come from torch's current random state."""
    head = head_of(module, preprocessing)
    if not head.name:
        return _fresh(head.layer, classes)
    module.set_submodule(head.name, _fresh(head.layer, classes))
    for name, layer in list(module.named_modules()):
        if name in AUXILIARY and isinstance(layer, Layer):
            module.set_submodule(name, _fresh(layer, classes))
    return module


def _fresh(layer: Layer, classes: int) -> Layer:
    device, bias = layer.weight.device, layer.bias is not None
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, classes, bias, device=device)
    shape: Any = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding")}  # torch types them loosely
    return nn.Conv2d(layer.in_channels, classes, bias=bias, device=device, **shape)
