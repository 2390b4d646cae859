from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, data, tiny
from tests.messages import calling
from toolchain.compress.metrics import macs
from toolchain.compress.pruning.groups import ChannelGroup, channels_to_remove, rounded_width
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import CompressedModel, LearnedQuantization, Quantization, StepContext
from toolchain.compress.steps.prune_channels import PruneChannels
from toolchain.compress.training.head import find_head
from toolchain.errors import RecipeError
from toolchain.models.check import class_count
from toolchain.models.cifar import cifar_network
from toolchain.records.tensors import Preprocessing

SMALL = Preprocessing(64, 64)


def widths(module: nn.Module) -> list[int]:
    return [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def small(folder: Path) -> StepContext:
    return replace(context(folder), preprocessing=SMALL)


def message(step: PruneChannels, model: CompressedModel, place: StepContext) -> str:
    with pytest.raises(RecipeError) as error:
        step.apply(model, place)
    return str(error.value)


@pytest.mark.parametrize("importance", ["l1", "l2", "fpgm", "bn_scale", "taylor"])
def test_every_importance_keeps_the_steps_contract(importance: Any, tmp_path: Path) -> None:
    keeps_the_contract("prune_channels", PruneChannels(0.5, importance, round_to=8), tmp_path)


def test_the_least_important_channels_go(tmp_path: Path) -> None:
    model = tiny()
    conv, norm, after = model.stem[0], model.stem[1], model.body[0]
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and isinstance(after, nn.Conv2d)
    with torch.no_grad():
        conv.weight[::2], norm.weight[::2], after.weight[:, ::2] = 0, 0, 0
    found = PruneChannels(0.5, ignore=("body",), round_to=1).apply(CompressedModel(model), context(tmp_path)).module
    image = torch.randn(2, 3, 8, 8)
    assert widths(found) == [8, 32]
    assert torch.allclose(found(image), model(image), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("together", [False, True])
def test_real_networks_stay_whole_and_cost_less(name: str, together: bool, tmp_path: Path) -> None:
    module = torchvision.models.get_model(name, weights=None)
    step = PruneChannels(0.4, global_pruning=together, importance="l1", round_to=8)
    after = step.apply(CompressedModel(module), small(tmp_path)).module
    assert macs(after, SMALL) < 0.75 * macs(module, SMALL)
    assert class_count(after, SMALL) == 1000
    assert all(width % 8 == 0 for width in widths(after))
    assert find_head(after, SMALL).classes == 1000
    (after(torch.zeros(2, 3, 64, 64)).sum()).backward()


def test_several_rounds_reach_the_same_share_as_one(tmp_path: Path) -> None:
    one = PruneChannels(0.5, round_to=4).apply(CompressedModel(tiny()), context(tmp_path)).module
    four = PruneChannels(0.5, round_to=4, iterative_steps=4).apply(CompressedModel(tiny()), context(tmp_path)).module
    assert widths(one) == widths(four) == [8, 16]


def test_parts_of_a_grouped_convolution_lose_the_same_channels(tmp_path: Path) -> None:
    class Grouped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 16, 1), nn.Conv2d(16, 32, 3, groups=4)
            self.head = nn.Linear(32, 4)

        def forward(self, x: Tensor) -> Tensor:
            answer: Tensor = self.head(self.second(self.first(x)).mean((2, 3)))
            return answer

    after = PruneChannels(0.5, round_to=8).apply(CompressedModel(Grouped()), context(tmp_path)).module
    assert widths(after) == [8, 16]
    assert class_count(after, context(tmp_path).preprocessing) == 4


def test_auxiliary_classifiers_go_before_pruning(tmp_path: Path) -> None:
    with torch.random.fork_rng([]):
        module = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    after = PruneChannels(0.5).dry_run(CompressedModel(module), small(tmp_path)).module
    assert after.aux1 is None
    assert after.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


def test_a_step_that_rounding_undoes_is_refused(tmp_path: Path) -> None:
    assert message(PruneChannels(0.05), CompressedModel(tiny()), context(tmp_path)) == (
        "ratio = 0.05 with round_to = 16 removes nothing: the widest layer, body.0, has 32 channels and rounds back "
        "to 32; raise ratio or lower round_to"
    )


def test_emptying_a_layer_is_refused_by_its_name(tmp_path: Path) -> None:
    model = tiny()
    with torch.no_grad():
        for parameter in model.stem.parameters():
            parameter.zero_()
    step = PruneChannels(0.6, "bn_scale", global_pruning=True, round_to=1)
    assert message(step, CompressedModel(model), context(tmp_path)) == (
        "would remove all 16 channels of stem.0; lower ratio, or set global_pruning = false"
    )


def test_what_cannot_be_pruned_is_refused(tmp_path: Path) -> None:
    place, step = context(tmp_path), PruneChannels(0.5)
    assert message(PruneChannels(0.5, ignore=("bod",)), CompressedModel(tiny()), place).startswith(
        "ignore: no layer 'bod'; the ne"
    )
    assert message(PruneChannels(0.5, finetune_epochs=1), CompressedModel(tiny(7)), place).startswith(
        "finetune_epochs: the model ha"
    )
    assert message(PruneChannels(0.5, "taylor"), CompressedModel(tiny(7)), place).startswith(
        "importance taylor: the model has 7 cl"
    )
    assert message(step, CompressedModel(tiny(), Quantization()), place).startswith(
        "pruning after quantization would undo it; move it before quantize and qat"
    )
    learned = CompressedModel(tiny(), learned=LearnedQuantization(8, 8))
    assert message(step, learned, place).startswith(
        "pruning after quantization would undo it; move it before quantize and qat"
    )
    program = torch.export.export(tiny(), (torch.zeros(2, 3, 8, 8),)).module()
    assert message(step, CompressedModel(program), place).startswith(
        "an exported program cannot be pruned; give the model as"
    )
    bare = replace(place, data=data(test=4))
    assert message(PruneChannels(0.5, "taylor"), CompressedModel(tiny()), bare).startswith(
        "importance taylor needs training imag"
    )


def test_a_target_in_macs_is_met_by_the_smallest_ratio(tmp_path: Path) -> None:
    model, place = CompressedModel(tiny()), context(tmp_path)
    before = macs(model.module, place.preprocessing)
    after = PruneChannels(macs_times_fewer=2, round_to=4).apply(model, place)
    probes = {entry["ratio"]: entry for entry in after.history}
    used = min(ratio for ratio, entry in probes.items() if entry["times"] >= 2)
    assert before / macs(after.module, place.preprocessing) == probes[used]["times"] >= 2
    assert widths(PruneChannels(used, round_to=4).apply(model, place).module) == widths(after.module) == [8, 20]
    assert all(entry["times"] < 2 for ratio, entry in probes.items() if ratio < used)
    again = PruneChannels(macs_times_fewer=2, round_to=4).dry_run(model, place)
    assert widths(again.module) == widths(after.module)


def test_a_target_in_macs_holds_when_scores_change_between_cuts(tmp_path: Path) -> None:
    model, place = CompressedModel(tiny()), context(tmp_path)
    step = PruneChannels(
        macs_times_fewer=3, round_to=1, global_pruning=True, iterative_steps=2, finetune_epochs=1, lr=0.1, batch_size=32
    )
    after = step.apply(model, place)
    assert macs(model.module, place.preprocessing) >= 3 * macs(after.module, place.preprocessing)
    assert [entry["cut"] for entry in after.history if "cut" in entry] == [1, 2]


def stairs_ms(modules: Sequence[nn.Module]) -> tuple[float, ...]:
    """An engine that computes sixteen channels in the time of one."""
    return tuple(sum(-(-width // 16) for width in widths(module)) * 0.1 for module in modules)


def test_a_target_in_latency_is_met_on_the_engines_stairs(tmp_path: Path, messages: list[str]) -> None:
    place = context(tmp_path, latencies_ms=stairs_ms)
    after = PruneChannels(latency_times_faster=1.5, round_to=4).apply(CompressedModel(tiny()), place)
    assert widths(after.module) == [8, 16]
    assert after.history[0] == {"ratio": 0.5, "macs": 32320, "times": pytest.approx(1.5), "latency_ms": 0.2}
    assert messages[0] == "  0.200 ms against 0.300 ms, 1.50 times faster"


def test_measured_probes_are_not_measured_again_after_an_interruption(tmp_path: Path) -> None:
    def broken(_: Sequence[nn.Module]) -> tuple[float, ...]:
        raise AssertionError

    step, model = PruneChannels(latency_times_faster=1.5, round_to=4), CompressedModel(tiny())
    first = step.apply(model, context(tmp_path, latencies_ms=stairs_ms))
    again = step.apply(model, context(tmp_path, latencies_ms=broken))
    assert weights_digest(again.module) == weights_digest(first.module)
    assert again.history == first.history


def test_targets_that_cannot_be_met_are_refused(tmp_path: Path) -> None:
    place = context(tmp_path, latencies_ms=stairs_ms)
    assert message(PruneChannels(latency_times_faster=4, round_to=4), CompressedModel(tiny()), place) == (
        "latency_times_faster = 4: no ratio reaches it; the best found is 1.50 times, 0.200 ms, at ratio = 0.500; "
        "lower the target, or lower round_to = 4"
    )
    assert message(PruneChannels(macs_times_fewer=9), CompressedModel(tiny()), place) == (
        "macs_times_fewer = 9: no ratio reaches it; the best found is 1.57 times at ratio = 0.500; lower the target, "
        "or lower round_to = 16"
    )
    assert message(PruneChannels(latency_times_faster=2), CompressedModel(tiny()), context(tmp_path)) == (
        "latency_times_faster: no engine to measure on; use macs_times_fewer"
    )
    assert message(PruneChannels(0.5, macs_times_fewer=2), CompressedModel(tiny()), place) == (
        "ratio and macs_times_fewer: expected one target; remove all but one"
    )
    assert (
        message(PruneChannels(1.0), CompressedModel(tiny()), place) == "ratio = 1: expected more than 0 and less than 1"
    )


def test_fine_tuning_between_cuts_goes_on_after_an_interruption(tmp_path: Path, messages: list[str]) -> None:
    step = PruneChannels(0.5, round_to=4, iterative_steps=2, finetune_epochs=2, lr=0.05, batch_size=32)
    said: list[str] = []

    def interrupting(text: str) -> None:
        said.append(text)
        if sum(one.startswith("epoch 1/2") for one in said) == 2:
            raise KeyboardInterrupt

    straight = step.apply(CompressedModel(tiny()), context(tmp_path / "straight"))
    with pytest.raises(KeyboardInterrupt), calling(interrupting):
        step.apply(CompressedModel(tiny()), context(tmp_path / "killed"))
    resumed = step.apply(CompressedModel(tiny()), context(tmp_path / "killed"))
    assert "resuming after epoch 1 of 2" in messages
    assert weights_digest(resumed.module) == weights_digest(straight.module)
    assert [(entry["cut"], entry["epoch"]) for entry in straight.history] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert widths(step.dry_run(CompressedModel(tiny()), context(tmp_path)).module) == widths(straight.module) == [8, 16]


def test_what_residual_blocks_add_up_can_be_left_alone(tmp_path: Path) -> None:
    module, shape = cifar_network("resnet8", 4), Preprocessing(32, 32)
    place = replace(context(tmp_path), preprocessing=shape)
    inside = PruneChannels(0.5, round_to=4, residual=False).apply(CompressedModel(module), place).module
    through = PruneChannels(0.5, round_to=4).apply(CompressedModel(module), place).module
    assert widths(inside) == [16, 8, 16, 16, 32, 32, 32, 64, 64]
    assert max(widths(through)) == 32


class Hidden(nn.Module):
    """A classifier with a hidden Linear layer behind flattened features, as VGG16's."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.pool = nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(2)
        self.hidden, self.dropout, self.head = nn.Linear(32, 24), nn.Dropout(), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.pool(self.features(x).relu()).flatten(1)
        answer: Tensor = self.head(self.dropout(self.hidden(flat).relu()))
        return answer


def test_neurons_of_hidden_linear_layers_go_too(tmp_path: Path) -> None:
    after = PruneChannels(0.5, round_to=4).apply(CompressedModel(Hidden().eval()), context(tmp_path)).module
    assert isinstance(after, Hidden)
    assert [(one.in_features, one.out_features) for one in (after.hidden, after.head)] == [(16, 12), (12, 4)]


def test_zeros_that_are_to_stay_are_named_as_before(tmp_path: Path) -> None:
    model = tiny()
    with torch.no_grad():
        model.body[0].weight[:, ::2] = 0  # type: ignore[operator]  # torch types a Sequential's parts loosely
    after = PruneChannels(0.5, round_to=4).apply(
        CompressedModel(model, sparse=("body.0.weight", "aux1.fc.weight")), context(tmp_path)
    )
    assert after.sparse == ("body.0.weight",)
    assert after.sparse[0] in dict(after.module.named_parameters())


def coupled(scores: list[float], repeat: int = 1) -> ChannelGroup:
    return ChannelGroup(f"layer{len(scores)}", torch.tensor(scores), repeat, nn.Identity(), None)


def test_removals_are_ranked_together_or_layer_by_layer() -> None:
    groups = [coupled([1.0, 2, 3, 4]), coupled([5.0, 6, 7, 8, 9, 10])]
    initial = {group.name: group.width for group in groups}
    assert channels_to_remove(groups, initial, 0.5, global_ranking=False) == [2, 3]
    assert channels_to_remove(groups, initial, 0.5, global_ranking=True) == [4, 1]
    assert channels_to_remove(groups, {"layer4": 8, "layer6": 12}, 0.5, global_ranking=True) == [0, 0]


def test_widths_are_rounded_to_the_nearest_multiple_and_never_to_nothing() -> None:
    wide = coupled([0.0] * 64)
    assert [rounded_width(wide, removed, 16) for removed in (0, 7, 9, 19, 63)] == [64, 64, 48, 48, 16]
    assert rounded_width(coupled([0.0] * 16), 9, 16) == 16
    assert rounded_width(coupled([0.0] * 24), 2, 16) == 16
    assert rounded_width(coupled([0.0] * 16, repeat=4), 8, 16) == 8
