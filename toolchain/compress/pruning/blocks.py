"""Residual blocks that can be taken out of a network, found by running it; and how much each one matters.

Knows no architecture by name: with all its parameters zero, a residual block hands on its input, or the input's ReLU
(He et al. 2016; the branch is then zero). That holds for ResNets', MobileNets' and EfficientNets' blocks with a plain
shortcut, and for transformers'; not for blocks that change the shape, nor for any block of VGG, Inception or DenseNet.
"""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from toolchain.compress.batches import Batches
from toolchain.compress.training.losses import logits_of
from toolchain.data import Split
from toolchain.models.eval_mode import device_of, evaluation_mode, temporary_hooks
from toolchain.models.structure import PassThrough
from toolchain.progress import counted
from toolchain.records.tensors import Preprocessing

BlockScores = dict[str, float]  # a block's name and how much it matters


def find_residual_blocks(module: nn.Module, preprocessing: Preprocessing) -> tuple[str, ...]:
    """The innermost removable blocks, by name, in the order they run in."""
    seen = _record_inputs(module, preprocessing)
    with evaluation_mode(module):
        found = [name for name, given in seen.items() if _is_residual(module.get_submodule(name), given)]
    return tuple(name for name in found if not any(other.startswith(f"{name}.") for other in found))


def remove_blocks(module: nn.Module, blocks: Collection[str]) -> nn.Module:
    """A copy of `module` in which each of `blocks` hands on what it is given; export leaves nothing of it."""
    copied = deepcopy(module)
    for name in blocks:
        copied.set_submodule(name, PassThrough().train(copied.get_submodule(name).training))
    return copied


def removal_losses(module: nn.Module, blocks: Sequence[str], part: Split, preprocessing: Preprocessing) -> BlockScores:
    """How much the mean cross-entropy over `part` rises when a block is taken out, each by itself."""
    whole = _mean_loss(module, part, preprocessing)
    tried = counted(blocks, "prune_blocks: without each block", len(blocks))
    return {name: _mean_loss(remove_blocks(module, [name]), part, preprocessing) - whole for name in tried}


def block_influences(
    module: nn.Module, blocks: Sequence[str], part: Split, preprocessing: Preprocessing
) -> BlockScores:
    """Block influence (Men et al. 2024, ShortGPT): 1 less the mean cosine between a block's input and output, over the
    pictures and places of `part`. One pass for all blocks, and no labels."""
    totals, seen = dict.fromkeys(blocks, 0.0), dict.fromkeys(blocks, 0)

    def measure(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
            axis = 1 if answer.ndim == 4 else -1  # channels of [N, C, H, W]; features of [N, tokens, features]
            cosine = functional.cosine_similarity(given[0], answer, dim=axis)
            totals[name] += float(cosine.sum())
            seen[name] += cosine.numel()

        return hook

    with temporary_hooks([module.get_submodule(name).register_forward_hook(measure(name)) for name in blocks]):
        _mean_loss(module, part, preprocessing)
    return {name: 1 - totals[name] / max(1, seen[name]) for name in blocks}


def _record_inputs(module: nn.Module, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """What each module that keeps its one input's shape, and holds parameters in parts of its own, is given."""
    height, width, channels = preprocessing.shape
    random = torch.Generator().manual_seed(0)
    picture = torch.randn(1, channels, height, width, generator=random).to(device_of(module))
    given: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}

    def before(name: str) -> Callable[..., None]:
        return lambda _, args: (
            given.update({name: args[0].clone()}) if _is_single_tensor(args) else None
        )  # in-place layers follow

    def after(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], answer: Any) -> None:
            if _is_single_tensor(args) and isinstance(answer, Tensor) and answer.shape == given[name].shape:
                kept[name] = given[name]

        return hook

    handles = []
    for name, part in module.named_modules():
        if name and any(True for _ in part.children()) and any(True for _ in part.parameters()):
            handles += [part.register_forward_pre_hook(before(name)), part.register_forward_hook(after(name))]
    with temporary_hooks(handles), evaluation_mode(module), torch.no_grad():
        module(picture)
    return {name: kept[name] for name in given if name in kept}


def _is_single_tensor(args: tuple[Any, ...]) -> bool:
    return len(args) == 1 and isinstance(args[0], Tensor)


def _is_residual(block: nn.Module, given: Tensor) -> bool:
    """Is a zero branch the same as no block?"""
    empty = deepcopy(block)
    with torch.no_grad():
        for parameter in empty.parameters():
            parameter.zero_()
        answer: Tensor = empty(given.clone())
    return torch.equal(answer, given) or torch.equal(answer, given.relu())


@torch.inference_mode()
def _mean_loss(module: nn.Module, part: Split, preprocessing: Preprocessing) -> float:
    """The mean cross-entropy over every picture of `part`."""
    total = 0.0
    with evaluation_mode(module):
        for images, labels in Batches(part, preprocessing, device_of(module)).ordered_batches():
            total += float(functional.cross_entropy(logits_of(module(images)), labels, reduction="sum"))
    return total / len(part)
