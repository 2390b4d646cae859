from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import PREPROCESSING, context, data, residual, tiny
from toolchain.compress.metrics import macs
from toolchain.compress.pruning.blocks import block_influences, find_residual_blocks, removal_losses, remove_blocks
from toolchain.compress.step import CompressedModel, LearnedQuantization, Quantization
from toolchain.compress.steps.prune_blocks import PruneBlocks
from toolchain.compress.steps.prune_channels import PruneChannels
from toolchain.errors import RecipeError
from toolchain.models.cifar import cifar_network
from toolchain.records.tensors import Preprocessing

SMALL = Preprocessing(64, 64)


def idle(module: nn.Module, name: str) -> None:
    """Make a block of ours do nothing: its branch is zero."""
    norm = module.get_submodule(f"{name}.bn2")
    assert isinstance(norm, nn.BatchNorm2d) and norm.bias is not None
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.zero_()


def gone(model: CompressedModel) -> list[str]:
    return [
        name for name, part in model.module.named_modules() if name[:-1] == "blocks." and isinstance(part, nn.Identity)
    ]


def message(step: PruneBlocks, model: CompressedModel, folder: Path, **changes: Any) -> str:
    with pytest.raises(RecipeError) as error:
        step.apply(model, context(folder, **changes))
    return str(error.value)


@pytest.mark.parametrize("importance", ["loss", "influence"])
@pytest.mark.parametrize("greedy", [True, False])
def test_prune_blocks_keeps_the_steps_contract(importance: Any, greedy: bool, tmp_path: Path) -> None:
    keeps_the_contract("prune_blocks", PruneBlocks(2, importance=importance, greedy=greedy), tmp_path, residual)


def test_the_block_that_does_nothing_matters_nothing(tmp_path: Path, messages: list[str]) -> None:
    module, part = residual(), data().split("validate")
    idle(module, "blocks.1")
    names = find_residual_blocks(module, PREPROCESSING)
    losses = removal_losses(module, names, part, PREPROCESSING)
    assert losses["blocks.1"] == pytest.approx(0, abs=1e-6)
    assert block_influences(module, names, part, PREPROCESSING)["blocks.1"] == pytest.approx(0, abs=1e-6)
    after = PruneBlocks(importance="influence").apply(CompressedModel(module), context(tmp_path))
    image = torch.randn(2, 3, 8, 8)
    assert gone(after) == ["blocks.1"]
    assert torch.allclose(after.module(image), module(image), atol=1e-6)
    [told] = messages
    assert told.startswith("without blocks.1 (influence ")
    assert "times fewer" in told
    assert gone(PruneBlocks().apply(CompressedModel(module), context(tmp_path))) == [
        min(losses, key=losses.__getitem__)
    ]


def test_ratio_counts_the_blocks_that_may_go(tmp_path: Path) -> None:
    assert len(gone(PruneBlocks(ratio=0.5).apply(CompressedModel(residual()), context(tmp_path)))) == 2
    assert len(gone(PruneBlocks(ratio=0.01).apply(CompressedModel(residual()), context(tmp_path)))) == 1
    assert gone(
        PruneBlocks(ratio=0.9, ignore=("blocks.[01]",)).apply(CompressedModel(residual()), context(tmp_path))
    ) == ["blocks.2"]


def test_samples_bound_what_is_looked_at(tmp_path: Path) -> None:
    few = replace(data(), splits={"validate": data(train=0, validate=8).split("validate")})
    one = PruneBlocks(2, samples=8).apply(CompressedModel(residual()), context(tmp_path))
    assert gone(one) == gone(PruneBlocks(2).apply(CompressedModel(residual()), context(tmp_path, data=few)))


@pytest.mark.parametrize(
    ("name", "found", "first"),
    [
        ("resnet18", 5, "layer1.0"),
        ("mobilenet_v2", 10, "features.3"),
        ("mobilenet_v3_small", 6, "features.3"),
        ("efficientnet_b0", 9, "features.2.1"),
    ],
)
def test_residual_blocks_are_found_in_real_networks(name: str, found: int, first: str) -> None:
    module = torchvision.models.get_model(name, weights=None).eval()
    blocks = find_residual_blocks(module, SMALL)
    assert (len(blocks), blocks[0]) == (found, first)
    shorter = remove_blocks(module, blocks)
    assert macs(shorter, SMALL) < macs(module, SMALL)
    assert shorter(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


@pytest.mark.parametrize("name", ["squeezenet1_1", "densenet121"])
def test_networks_without_such_blocks_are_refused(name: str, tmp_path: Path) -> None:
    module = torchvision.models.get_model(name, weights=None).eval()
    found = message(PruneBlocks(), CompressedModel(module), tmp_path, preprocessing=SMALL)
    assert found.startswith("the model has no removable residual block")
    assert found.endswith("use prune_channels")


def test_blocks_that_change_the_shape_stay_and_plain_chains_have_none() -> None:
    assert find_residual_blocks(cifar_network("vgg11", 10), Preprocessing(32, 32)) == ()
    blocks = find_residual_blocks(cifar_network("resnet20", 10), Preprocessing(32, 32))
    assert blocks == ("stages.0.0", "stages.0.1", "stages.0.2", *(f"stages.{s}.{b}" for s in (1, 2) for b in (1, 2)))


def test_measuring_leaves_the_model_as_it_is(tmp_path: Path) -> None:
    module, part = residual().train(), data().split("validate")
    removal_losses(module, ["blocks.0"], part, PREPROCESSING)
    block_influences(module, ["blocks.0"], part, PREPROCESSING)
    assert module.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_channels_are_pruned_after_blocks_and_blocks_after_channels(tmp_path: Path) -> None:
    place, blocks, channels = context(tmp_path), PruneBlocks(), PruneChannels(0.5, round_to=4)
    one = channels.apply(blocks.apply(CompressedModel(residual()), place), place)
    other = blocks.apply(channels.apply(CompressedModel(residual()), place), place)
    assert macs(one.module, PREPROCESSING) == macs(other.module, PREPROCESSING)


def test_zeros_of_a_removed_block_are_forgotten(tmp_path: Path) -> None:
    module = residual()
    idle(module, "blocks.1")
    model = CompressedModel(module, sparse=("blocks.0.conv1.weight", "blocks.1.conv1.weight"))
    after = PruneBlocks(importance="influence").apply(model, context(tmp_path))
    assert after.sparse == ("blocks.0.conv1.weight",)


def test_export_leaves_nothing_of_a_removed_block() -> None:
    module = remove_blocks(residual(), ["blocks.0", "blocks.1", "blocks.2"])
    nodes = torch.export.export(module, (torch.zeros(2, 3, 8, 8),)).graph.nodes
    called = [str(node.target) for node in nodes if node.op == "call_function"]
    assert [name for name in called if "conv" in name] == ["aten.conv2d.default"]
    assert not [name for name in called if "add" in name or "identity" in name or "clone" in name]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (PruneBlocks(4), "count = 4: expected at most 3, the removable blocks: blocks.0, blocks.1, blocks.2"),
        (PruneBlocks(ignore=("blocks",)), "count = 1: expected at most 0, the removable blocks: all are ignored"),
        (PruneBlocks(ignore=("block.1",)), "ignore: no layer 'block.1'; the nearest are: blocks.1, blocks.2, blocks.0"),
        (PruneBlocks(2, 0.5), "count = 2 and ratio = 0.5: expected one of them; remove the other"),
    ],
)
def test_what_cannot_be_done_is_refused(step: PruneBlocks, expected: str, tmp_path: Path) -> None:
    assert message(step, CompressedModel(residual()), tmp_path) == expected


def test_models_and_data_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    step, bare = PruneBlocks(), data(train=8)
    assert message(step, CompressedModel(residual()), tmp_path, data=bare) == (
        "data 'made' has no validation images to score blocks with; choose data that has some"
    )
    undone = "pruning after quantization would undo it; move it before quantize and qat"
    assert message(step, CompressedModel(residual(), Quantization()), tmp_path) == undone
    assert message(step, CompressedModel(residual(), learned=LearnedQuantization(8, 8)), tmp_path) == undone
    program = torch.export.export(tiny(), (torch.zeros(2, 3, 8, 8),)).module()
    assert message(step, CompressedModel(program), tmp_path).startswith("an exported program cannot be pruned")


def test_a_block_that_is_given_more_than_its_input_can_be_taken_out() -> None:
    taken = remove_blocks(nn.Sequential(nn.Linear(4, 4)), ["0"]).get_submodule("0")
    x = torch.ones(1, 4)
    assert torch.equal(taken(x, 1, rate=0.1), x)
