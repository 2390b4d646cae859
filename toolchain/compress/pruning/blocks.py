"""Finds residual blocks that can be removed from a model, and scores how much each one matters.

Knows no architecture by name: with all its parameters zero, a residual block returns its input or the ReLU of it (He et
al. 2016; the branch is then zero). That holds for the blocks of ResNets, MobileNets and EfficientNets with an identity
shortcut, and for transformers'; not for blocks that change the shape, nor for VGG, Inception or DenseNet.
"""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.batches import Batches
from toolchain.compress.training.losses import classification_loss, logits_of
from toolchain.data import Split
from toolchain.models.eval_mode import device_of, evaluation_mode, temporary_hooks
from toolchain.models.memory_layout import find_memory_format
from toolchain.models.structure import PassThrough
from toolchain.progress import track
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Preprocessing

BlockScores = dict[str, float]  # by block name


def find_residual_blocks(module: nn.Module, preprocessing: Preprocessing) -> tuple[str, ...]:
    """The innermost removable blocks, by name, in the order in which they run."""
    seen = _record_inputs(module, preprocessing)
    with evaluation_mode(module):
        blocks = [name for name, block_input in seen.items() if _is_residual(module.get_submodule(name), block_input)]
    return tuple(name for name in blocks if not any(other.startswith(f"{name}.") for other in blocks))


def remove_blocks(module: nn.Module, blocks: Collection[str]) -> nn.Module:
    """A copy of `module` in which each of `blocks` returns its input; nothing of them remains in the exported graph."""
    copied = deepcopy(module)
    for name in blocks:
        copied.set_submodule(name, PassThrough().train(copied.get_submodule(name).training))
    return copied


def removal_losses(
    module: nn.Module, blocks: Sequence[str], split: Split, preprocessing: Preprocessing, output: OutputKind = SOFTMAX
) -> BlockScores:
    """How much the mean cross-entropy over `split` rises when each block alone is removed."""
    whole = _mean_loss(module, split, preprocessing, output)
    tried = track(blocks, "prune_blocks: without each block", len(blocks))
    return {name: _mean_loss(remove_blocks(module, [name]), split, preprocessing, output) - whole for name in tried}


def block_influences(
    module: nn.Module, blocks: Sequence[str], split: Split, preprocessing: Preprocessing, output: OutputKind = SOFTMAX
) -> BlockScores:
    """Block influence (Men et al. 2024, ShortGPT): 1 minus the mean cosine similarity of a block's input and output
    over all images and positions of `split`. One pass for all blocks; needs no labels."""
    totals, seen = dict.fromkeys(blocks, 0.0), dict.fromkeys(blocks, 0)

    def measure(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
            axis = 1 if answer.ndim == 4 else -1  # channels of [N, C, H, W]; features of [N, tokens, features]
            cosine = functional.cosine_similarity(inputs[0], answer, dim=axis)
            # torch calls the similarity of zeros to zeros 0, but a block that leaves them as they are changes nothing
            cosine[(inputs[0] == 0).all(axis) & (answer == 0).all(axis)] = 1
            totals[name] += float(cosine.sum())
            seen[name] += cosine.numel()

        return hook

    with temporary_hooks([module.get_submodule(name).register_forward_hook(measure(name)) for name in blocks]):
        _mean_loss(module, split, preprocessing, output)
    return {name: 1 - totals[name] / max(1, seen[name]) for name in blocks}


def _record_inputs(module: nn.Module, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """The input of each module that preserves its single input's shape and has child modules and parameters."""
    height, width, channels = preprocessing.shape
    random = torch.Generator().manual_seed(0)
    image = torch.randn(1, channels, height, width, generator=random).to(device_of(module))
    inputs: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}

    def before(name: str) -> Callable[..., None]:
        return lambda _, args: (
            inputs.update({name: args[0].clone()}) if _is_single_tensor(args) else None
        )  # cloned: in-place layers may follow

    def after(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], answer: Any) -> None:
            if _is_single_tensor(args) and isinstance(answer, Tensor) and answer.shape == inputs[name].shape:
                kept[name] = inputs[name]

        return hook

    handles = []
    for name, layer in module.named_modules():
        if name and any(True for _ in layer.children()) and any(True for _ in layer.parameters()):
            handles += [layer.register_forward_pre_hook(before(name)), layer.register_forward_hook(after(name))]
    with temporary_hooks(handles), evaluation_mode(module), torch.no_grad():
        module(image)
    return {name: kept[name] for name in inputs if name in kept}


def _is_single_tensor(args: tuple[Any, ...]) -> bool:
    return len(args) == 1 and isinstance(args[0], Tensor)


def _is_residual(block: nn.Module, block_input: Tensor) -> bool:
    """Whether the block with a zero branch is the identity, or a ReLU."""
    empty = deepcopy(block)
    with torch.no_grad():
        for parameter in empty.parameters():
            parameter.zero_()
        answer: Tensor = empty(block_input.clone())
    return torch.equal(answer, block_input) or torch.equal(answer, block_input.relu())


@torch.inference_mode()
def _mean_loss(module: nn.Module, split: Split, preprocessing: Preprocessing, output: OutputKind) -> float:
    """The mean cross-entropy over every image of `split`."""
    total = 0.0
    batches = Batches(split, preprocessing, device_of(module), layout=find_memory_format(module, preprocessing))
    with evaluation_mode(module):
        for images, labels in batches.ordered_batches():
            total += float(classification_loss(logits_of(module(images)), labels, 0.0, output)) * len(labels)
    return total / len(split)
