"""Finds a model's inner layers, by name or at the ends of its stages, and captures their features.

Knows no architecture by name: a stage ends where the next block reduces the feature map. A block is a submodule that is
neither an nn.Sequential, nor the model itself, nor something that more than halves the feature map.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal

import torch
from torch import Tensor, nn

from toolchain.compress.metrics import example_input
from toolchain.compress.training.losses import ModelOutput
from toolchain.errors import RecipeError
from toolchain.models.eval_mode import evaluation_mode, temporary_hooks
from toolchain.records.tensors import Preprocessing

LayerSide = Literal["input", "output"]


@dataclass(frozen=True)
class FeatureLayer:
    """A layer by its dotted name, and the shape of its output for one image of [input]."""

    name: str
    channels: int
    height: int
    width: int


def find_layers(
    module: nn.Module, names: Sequence[str], preprocessing: Preprocessing, option: str, whose: str
) -> tuple[FeatureLayer, ...]:
    """The layers with these names; RecipeError for a name that does not exist, with the nearest names, and for a layer
    whose output is not [N, C, H, W]. option, whose: how messages name the option and the model."""
    known = [name for name, _ in module.named_modules() if name]
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known, 3, 0.3)) or ", ".join(known[:3])
            raise RecipeError(f"{option}: {whose} has no layer '{name}'; the nearest are: {near}")
    layers = {layer.name: layer for layer, _ in _trace_layers(module, preprocessing)}
    for name in names:
        if name not in layers:
            raise RecipeError(
                f"{option}: layer '{name}' of {whose} does not output [N, C, H, W]; name a convolution or block"
            )
    return tuple(layers[name] for name in names)


def find_stage_ends(module: nn.Module, preprocessing: Preprocessing, whose: str) -> tuple[FeatureLayer, ...]:
    """The last block at each feature map size above 1x1, shallow to deep; RecipeError when there is none."""
    ran = _trace_layers(module, preprocessing)
    units = _block_names(module, {layer.name: (layer, before) for layer, before in ran})
    once = [layer for layer, _ in ran if layer.name in units and sum(layer.name == other.name for other, _ in ran) == 1]
    ends = [
        layer
        for layer, after in zip(once, [*once, None][1:], strict=True)
        if layer.height * layer.width > 1 and (after is None or after.height * after.width < layer.height * layer.width)
    ]
    if not ends:
        raise RecipeError(f"no stages found in {whose}: no layer outputs [N, C, H, W] larger than 1x1; use distill")
    return tuple(ends)


def _block_names(module: nn.Module, ran: dict[str, tuple[FeatureLayer, int]]) -> set[str]:
    """Names of blocks; chains, and submodules that more than halve the feature map, are searched for blocks inside."""
    blocks, waiting = set[str](), [(name, child) for name, child in module.named_children()]
    while waiting:
        name, layer = waiting.pop()
        children = [(f"{name}.{below}", child) for below, child in layer.named_children()]
        traced, pixels_before = ran.get(name, (None, 0))
        whole = (
            traced is not None
            and not isinstance(layer, nn.Sequential)
            and 5 * traced.height * traced.width >= pixels_before
        )
        if whole or not children:
            blocks.add(name)
        else:
            waiting += children
    return blocks


def _trace_layers(module: nn.Module, preprocessing: Preprocessing) -> list[tuple[FeatureLayer, int]]:
    """Every layer with an output [1, C, H, W], in the order in which they finished, and its input's H * W."""
    ran: list[tuple[FeatureLayer, int]] = []

    def hook(name: str) -> Callable[..., None]:
        def note(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                first = inputs[0] if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim == 4 else output
                ran.append((FeatureLayer(name, *output.shape[1:]), first.shape[2] * first.shape[3]))

        return note

    hooks = [layer.register_forward_hook(hook(name)) for name, layer in module.named_modules() if name]
    with temporary_hooks(hooks), evaluation_mode(module), torch.no_grad():
        module(example_input(module, preprocessing))
    return ran


def capture_features(
    module: nn.Module, images: Tensor, names: Sequence[str], side: LayerSide = "output"
) -> tuple[ModelOutput, tuple[Tensor, ...]]:
    """The model's output for a batch [N, C, H, W], and the input or output of each named layer."""
    features: dict[str, Tensor] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            features[name] = output if side == "output" else inputs[0]

        return note

    hooks = [module.get_submodule(name).register_forward_hook(hook(name)) for name in set(names)]
    with temporary_hooks(hooks):
        answers: ModelOutput = module(images)
    return answers, tuple(features[name] for name in names)
