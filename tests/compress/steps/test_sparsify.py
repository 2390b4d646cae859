from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, residual, tiny
from toolchain.compress import check_order, parse_steps
from toolchain.compress.metrics import apply_step, sparsity
from toolchain.compress.pruning.magnitude import magnitude_masks, two_of_four_masks
from toolchain.compress.serialization import load_compressed, save_compressed
from toolchain.compress.step import CompressedModel, LearnedQuantization, Quantization, Step
from toolchain.compress.steps.distill import Distill
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.steps.prune_channels import PruneChannels
from toolchain.compress.steps.sparsify import Sparsify
from toolchain.errors import RecipeError

TRAINING: dict[str, Any] = {"epochs": 2, "batch_size": 16, "lr": 0.1, "augment": (), "ema_decay": 0.9}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def weight(model: CompressedModel, name: str) -> Tensor:
    return model.module.get_parameter(f"{name}.weight").detach()


def share(model: CompressedModel, name: str) -> float:
    return float((weight(model, name) == 0).float().mean())


def message(step: Sparsify, model: CompressedModel, folder: Path) -> str:
    with pytest.raises(RecipeError) as error:
        step.apply(model, context(folder))
    return str(error.value)


@pytest.mark.parametrize("step", [Sparsify(0.7), Sparsify(0.7, "layer", classifier=True), Sparsify(pattern="2:4")])
def test_sparsify_keeps_the_steps_contract(step: Sparsify, tmp_path: Path) -> None:
    keeps_the_contract("sparsify", step, tmp_path)


def test_the_smallest_weights_of_all_layers_together_are_zeroed(tmp_path: Path, messages: list[str]) -> None:
    module = tiny()
    after, record = apply_step("sparsify", Sparsify(0.6), CompressedModel(module), context(tmp_path))
    kept = torch.cat([weight(after, name).flatten() for name in ("stem.0", "body.0")])
    gone = torch.cat([module.get_parameter(name).flatten() for name in after.sparse])[kept == 0]
    assert len(gone) == int(0.6 * (3 * 16 * 9 + 16 * 32 * 9))
    assert gone.abs().max() <= kept[kept != 0].abs().min()
    assert share(after, "stem.0") < 0.6 < share(after, "body.0")
    assert share(after, "head") == 0
    assert after.sparse == ("stem.0.weight", "body.0.weight")
    assert messages == ["60.0% of 5,040 weights in 2 layers are zero"]
    assert record.sparsity == sparsity(after.module) == pytest.approx(0.6 * 5040 / (5040 + 128), abs=1e-3)


def test_each_layer_loses_the_same_share_and_the_classifier_too_when_asked(tmp_path: Path) -> None:
    after = Sparsify(0.75, "layer", classifier=True, ignore=("body",)).apply(CompressedModel(tiny()), context(tmp_path))
    assert [share(after, name) for name in ("stem.0", "body.0", "head")] == [0.75, 0, 0.75]
    assert after.sparse == ("stem.0.weight", "head.weight")


@given(st.lists(st.floats(-2, 2, width=16), min_size=1, max_size=40), st.floats(0.01, 0.99))
def test_a_layer_loses_exactly_its_share(values: list[float], ratio: float) -> None:
    tensor = torch.tensor(values)
    mask = magnitude_masks({"one": tensor}, ratio, "layer")["one"]
    assert int(mask.sum()) == int(len(values) * ratio)
    assert not mask.any() or tensor[mask].abs().max() <= tensor[~mask].abs().min()


def test_equal_weights_go_by_their_place() -> None:
    masks = magnitude_masks({"a": torch.ones(3), "b": torch.ones(3)}, 0.5, "layer")
    assert masks["a"].tolist() == masks["b"].tolist() == [True, False, False]


def groups_of_four(tensor: Tensor) -> Tensor:
    """How many are not zero in each four input channels, at every output channel and place."""
    outputs, inputs = tensor.shape[:2]
    return (tensor != 0).reshape(outputs, inputs // 4, 4, -1).sum(2)


def test_two_of_every_four_input_channels_stay(tmp_path: Path, messages: list[str]) -> None:
    step = Sparsify(pattern="2:4", classifier=True)
    after = step.apply(CompressedModel(tiny()), context(tmp_path))
    assert (groups_of_four(weight(after, "body.0")) == 2).all()
    assert (groups_of_four(weight(after, "head")) == 2).all()
    assert share(after, "stem.0") == 0
    assert after.sparse == ("body.0.weight", "head.weight")
    assert messages[0].endswith("layers are zero; left alone, input channels no multiple of 4: stem.0.weight")
    kept = weight(after, "body.0").abs().amax(1)
    assert torch.equal(kept, tiny().get_parameter("body.0.weight").abs().amax(1))


def test_two_of_four_keeps_the_largest_and_of_equals_the_last() -> None:
    rows = torch.tensor([[1.0, -4, 3, 2, 0, 0, 0, 5], [1, 1, 1, 1, -1, 2, -2, 1]])
    mask = two_of_four_masks({"one": rows})["one"]
    assert (rows * ~mask).tolist() == [[0, -4, 3, 0, 0, 0, 0, 5], [0, 0, 1, 1, 0, 2, -2, 0]]


@pytest.mark.parametrize("training", [Finetune(**TRAINING), Distill(**TRAINING, alpha=0.5)])
@pytest.mark.parametrize("step", [Sparsify(0.8), Sparsify(pattern="2:4")])
def test_zeros_stay_zeros_in_later_training(step: Sparsify, training: Step, tmp_path: Path) -> None:
    sparse = step.apply(CompressedModel(tiny()), context(tmp_path))
    after = training.apply(sparse, context(tmp_path / "trained", original=tiny))
    save_compressed(after, tmp_path / "kept" / "net.pt")
    for found in (after, load_compressed(tmp_path / "kept" / "net.pt")):
        assert found.sparse == sparse.sparse
        for name in found.sparse:
            parameter = found.module.get_parameter(name)
            assert torch.equal(parameter == 0, sparse.module.get_parameter(name) == 0)
            assert not torch.equal(parameter, sparse.module.get_parameter(name))


def test_zeros_outlive_the_pruning_of_channels(tmp_path: Path) -> None:
    place = context(tmp_path)
    sparse = Sparsify(0.8, "layer").apply(CompressedModel(tiny()), place)
    after = PruneChannels(0.5, round_to=4).apply(sparse, place)
    assert after.sparse == sparse.sparse
    assert weight(after, "body.0").shape == (16, 8, 3, 3)
    assert share(after, "body.0") > 0.6
    trained = Finetune(**TRAINING).apply(after, context(tmp_path / "trained"))
    assert share(trained, "body.0") == share(after, "body.0")


def test_pruned_channels_are_zeroed_after(tmp_path: Path) -> None:
    place = context(tmp_path)
    after = Sparsify(pattern="2:4").apply(
        PruneChannels(0.5, round_to=4).apply(CompressedModel(residual()), place), place
    )
    assert (groups_of_four(weight(after, "blocks.1.conv1")) == 2).all()


def test_more_can_be_zeroed_later(tmp_path: Path) -> None:
    place = context(tmp_path)
    half = Sparsify(0.5).apply(CompressedModel(tiny()), place)
    more = Sparsify(0.9, ignore=("stem",)).apply(half, place)
    assert more.sparse == half.sparse
    assert ((weight(half, "body.0") == 0) <= (weight(more, "body.0") == 0)).all()
    assert share(more, "body.0") == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Sparsify(0.7, pattern="2:4"), 'sparsity = 0.7 with pattern = "2:4", which zeroes half; remove sparsity'),
        (Sparsify(ignore=("bodi",)), "ignore: no layer 'bodi'; the nearest are: body, body.2, body.1"),
        (Sparsify(ignore=("*",)), "no layer is left to make sparse: all are ignored, or the classifier"),
        (Sparsify(0.0001), "nothing would be zeroed: 0.0% of the weights are zero already; raise sparsity"),
    ],
)
def test_what_cannot_be_done_is_refused(step: Sparsify, expected: str, tmp_path: Path) -> None:
    assert message(step, CompressedModel(tiny()), tmp_path) == expected


def test_emptying_a_layer_is_refused_by_its_name(tmp_path: Path) -> None:
    module = tiny()
    with torch.no_grad():
        module.get_parameter("stem.0.weight").mul_(1e-3)
    assert message(Sparsify(0.9), CompressedModel(module), tmp_path) == (
        "sparsity = 0.9 over all layers would zero all 432 weights of stem.0.weight; "
        'lower sparsity, or set scope = "layer"'
    )


def test_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    undone = "zeroing weights after quantization would undo it; move it before quantize and qat"
    assert message(Sparsify(), CompressedModel(tiny(), Quantization()), tmp_path) == undone
    assert message(Sparsify(), CompressedModel(tiny(), learned=LearnedQuantization(4, 8)), tmp_path) == undone
    program = torch.export.export(tiny(), (torch.zeros(2, 3, 8, 8),)).module()
    assert message(Sparsify(), CompressedModel(program), tmp_path).startswith(
        "an exported program cannot be made sparse"
    )
    step, model = Sparsify(0.5), CompressedModel(tiny())
    once = step.apply(model, context(tmp_path))
    assert message(step, once, tmp_path).startswith("nothing would be zeroed: 50.0% of the weights are zero already")
    odd = nn.Sequential(nn.Conv2d(3, 6, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))
    assert message(Sparsify(pattern="2:4"), CompressedModel(odd), tmp_path) == (
        'pattern = "2:4" fits no layer: none has input channels in multiples of 4; use "any"'
    )


def test_channels_cut_after_groups_of_four_are_refused_before_any_work() -> None:
    four, cut = {"sparsify": {"pattern": "2:4"}}, {"prune_channels": {}}
    check_order(parse_steps((cut, four), "x.toml"), "x.toml")
    check_order(parse_steps(({"sparsify": {}}, cut), "x.toml"), "x.toml")
    with pytest.raises(RecipeError) as error:
        check_order(parse_steps((four, cut), "x.toml"), "x.toml")
    assert str(error.value) == (
        "x.toml: step 2, prune_channels: comes after sparsify (step 1), whose groups of four channels it would shift; "
        "move prune_channels before it"
    )
