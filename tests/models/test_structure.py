"""Nets narrowed by pruning, blocks passed over, and their weights back in the same source's network."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.compress.nets import context
from tests.models.weights import SHAPE, back, record, written
from toolchain.compress.metrics import parameter_count
from toolchain.compress.step import CompressedModel
from toolchain.compress.steps.prune_channels import PruneChannels
from toolchain.errors import ModelError
from toolchain.models.load import load_model
from toolchain.models.save import structure_for_source
from toolchain.models.structure import apply_structure, structure_difference
from toolchain.recipe import ModelSpec
from toolchain.records.weights import KEY, Structure

HERE = Path(__file__).parent


def net_of(spec: ModelSpec) -> nn.Module:
    weights = ModelSpec(spec.source, "random", None, spec.options)
    return load_model(weights, SHAPE, 5, HERE, seed=4).require_module()


def pruned(spec: ModelSpec, folder: Path, ratio: float = 0.4) -> nn.Module:
    step = PruneChannels(ratio=ratio, round_to=4, importance="l1")
    return step.dry_run(CompressedModel(net_of(spec)), context(folder, preprocessing=SHAPE)).module


def same(one: nn.Module, other: nn.Module) -> None:
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert torch.allclose(one.eval()(images), other.eval()(images), atol=1e-5)
    assert [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]


@pytest.mark.filterwarnings("ignore:Unwrapped parameters detected:UserWarning")
@pytest.mark.parametrize(
    "source",
    ["cifar:resnet20", "compressible.py:mixed", "compressible.py:dense", "torchvision:mobilenet_v2"],
)
def test_a_pruned_model_comes_back_into_its_source(source: str, tmp_path: Path) -> None:
    spec = ModelSpec(source)
    module = pruned(spec, tmp_path)
    path = written(spec, module, tmp_path, HERE)
    loaded = back(spec, path, HERE)
    same(module, loaded.require_module())
    assert parameter_count(loaded.require_module()) < parameter_count(net_of(spec))
    assert loaded.head_fits
    assert loaded.description == f"{source} (w.safetensors; after prune_channels)"
    assert all(parameter.requires_grad for parameter in loaded.require_module().parameters())


def test_a_model_that_came_back_is_pruned_again_and_comes_back_again(tmp_path: Path) -> None:
    spec = ModelSpec("cifar:resnet20")
    once = back(spec, written(spec, pruned(spec, tmp_path), tmp_path)).require_module()
    step = PruneChannels(ratio=0.3, round_to=2, importance="l1")
    twice = step.dry_run(CompressedModel(once), context(tmp_path, preprocessing=SHAPE)).module
    same(twice, back(spec, written(spec, twice, tmp_path)).require_module())


def test_a_block_that_was_passed_over_stays_so(tmp_path: Path) -> None:
    spec = ModelSpec("cifar:resnet20")
    module = pruned(spec, tmp_path)
    module.set_submodule("stages.1.2", nn.Identity())
    found = structure_for_source(spec, Path(), module, 5)
    assert (found.identity, found.absent) == (("stages.1.2",), ())
    loaded = back(spec, written(spec, module, tmp_path)).require_module()
    assert isinstance(loaded.get_submodule("stages.1.2"), nn.Identity)
    same(module, loaded)


def test_a_module_that_is_gone_stays_gone(tmp_path: Path) -> None:
    spec = ModelSpec("compressible.py:mixed")
    module = net_of(spec)
    delattr(module.get_submodule("body"), "1")
    assert structure_for_source(spec, HERE, module, 5).absent == ("body.1",)
    same(module, back(spec, written(spec, module, tmp_path, HERE), HERE).require_module())


def test_a_head_of_other_classes_comes_back_and_is_checked_against_the_data(tmp_path: Path) -> None:
    spec = ModelSpec("compressible.py:mixed", options={"classes": 7})
    module = net_of(ModelSpec("compressible.py:mixed"))
    path = written(spec, module, tmp_path, HERE)
    assert back(spec, path, HERE).head_fits
    with pytest.raises(ModelError, match=r"5 classes, but the data has 9; .*finetune = \{ replace_head"):
        back(spec, path, HERE, classes=9)
    assert not back(spec, path, HERE, classes=9, allow_other_head=True).head_fits


def test_what_was_pruned_to_zeros_is_remembered(tmp_path: Path) -> None:
    spec = ModelSpec("cifar:resnet8")
    loaded = back(spec, written(spec, net_of(spec), tmp_path, sparse=("fc.weight",)))
    assert loaded.weights_record is not None
    assert loaded.weights_record.structure == Structure(sparse=("fc.weight",))


def test_another_source_is_refused_by_name(tmp_path: Path) -> None:
    spec = ModelSpec("cifar:resnet20")
    path = written(spec, pruned(spec, tmp_path), tmp_path)
    with pytest.raises(
        ModelError, match=r"w.safetensors, of cifar:resnet20: written for a model with 'stages.0.1.bn1'"
    ):
        back(ModelSpec("cifar:resnet8"), path)
    with pytest.raises(ModelError, match=r"does not fit cifar:resnet56: .* missing: .*; check model.source"):
        back(ModelSpec("cifar:resnet56"), path)


def test_without_its_record_a_pruned_model_is_refused_as_ever(tmp_path: Path) -> None:
    spec = ModelSpec("cifar:resnet20")
    path = written(spec, pruned(spec, tmp_path), tmp_path)
    save_file(load_file(path), tmp_path / "bare.safetensors")
    with pytest.raises(ModelError, match=r"other shape: .*; check model.source"):
        back(spec, tmp_path / "bare.safetensors")


def test_sizes_that_contradict_the_tensors_are_refused(tmp_path: Path) -> None:
    state = {"0.weight": torch.zeros(6, 3, 3, 3), "0.bias": torch.zeros(6)}

    def refusal(sizes: dict[str, Any], **tensors: tuple[int, ...]) -> str:
        fresh = nn.Sequential(nn.Conv2d(3, 8, 3))
        with pytest.raises(ModelError) as caught:
            apply_structure(
                fresh, Structure({"0": sizes}, {f"0.{name}": shape for name, shape in tensors.items()}), state, "w"
            )
        return str(caught.value)

    text = refusal({"out_channels": 5}, weight=(6, 3, 3, 3))
    assert text == "w: layer '0': sizes [5, 3], but its tensor is [6, 3, 3, 3]; the file is damaged: write it again"
    text = refusal({"out_channels": 6}, weight=(7, 3, 3, 3))
    assert (
        text
        == "w: tensor '0.weight': recorded as [7, 3, 3, 3], found [6, 3, 3, 3]; the file is damaged: write it again"
    )
    state.clear()
    text = refusal({"out_channels": 6}, weight=(1 << 20, 1 << 20))
    assert text.endswith("recorded as [1048576, 1048576], found [8, 3, 3, 3]; the file is damaged: write it again")
    for sizes in ({"num_groups": 5}, {"out_channels": (6,)}, {"__class__": 5}):
        assert refusal(sizes) == f"w: layer '0': a Conv2d has no {next(iter(sizes))}; check model.source"


def test_sizes_that_agree_with_the_tensors_but_not_with_each_other_fail_the_trial(tmp_path: Path) -> None:
    spec = ModelSpec("cifar:resnet8")
    state = net_of(spec).state_dict()
    state["fc.weight"] = torch.zeros(5, 60)
    text = record(spec, Structure({"fc": {"in_features": 60}}, {"fc.weight": (5, 60)}))
    save_file(state, tmp_path / "w.safetensors", {KEY: msgspec.json.encode(text).decode()})
    with pytest.raises(ModelError, match=r"fails on an input of float32 \[2, 3, 32, 32\] in layer 'fc': RuntimeError"):
        back(spec, tmp_path / "w.safetensors")


def test_a_layer_of_another_kind_cannot_be_written() -> None:
    with pytest.raises(ModelError, match="layer '0' became a Conv1d, which a weights file cannot represent;  write an"):
        structure_difference(nn.Sequential(nn.Conv2d(3, 8, 3)), nn.Sequential(nn.Conv1d(3, 8, 3)))


def test_a_model_that_would_not_come_back_the_same_is_not_written(tmp_path: Path) -> None:
    spec, module = ModelSpec("compressible.py:mixed"), net_of(ModelSpec("compressible.py:mixed"))
    module.factor = 2.0  # type: ignore[assignment]  # neither parameter nor buffer
    with pytest.raises(
        ModelError, match=r"w.safetensors: not written: read back, .* does the model keep state outside"
    ):
        written(spec, module, tmp_path, HERE)
    assert not (tmp_path / "w.safetensors").exists()
