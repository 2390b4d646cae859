from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, data, tiny
from toolchain.compress.groups import Coupled, removals, rounded
from toolchain.compress.head import head_of
from toolchain.compress.measured import macs
from toolchain.compress.prune_channels import PruneChannels
from toolchain.compress.step import Context, Net, Quantization
from toolchain.errors import RecipeError
from toolchain.models.check import classes_of
from toolchain.records.tensors import Preprocessing

SMALL = Preprocessing(64, 64)


def widths(module: nn.Module) -> list[int]:
    return [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d)]


def small(folder: Path) -> Context:
    return replace(context(folder), preprocessing=SMALL)


def message(step: PruneChannels, net: Net, place: Context) -> str:
    with pytest.raises(RecipeError) as error:
        step.apply(net, place)
    return str(error.value)


@pytest.mark.parametrize("importance", ["l1", "l2", "fpgm", "bn_scale", "taylor"])
def test_every_importance_keeps_the_steps_contract(importance: Any, tmp_path: Path) -> None:
    keeps_the_contract("prune_channels", PruneChannels(0.5, importance, round_to=8), tmp_path)


def test_the_least_important_channels_go(tmp_path: Path) -> None:
    net = tiny()
    conv, norm, after = net.stem[0], net.stem[1], net.body[0]
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and isinstance(after, nn.Conv2d)
    with torch.no_grad():
        conv.weight[::2], norm.weight[::2], after.weight[:, ::2] = 0, 0, 0
    found = PruneChannels(0.5, ignore=("body",), round_to=1).apply(Net(net), context(tmp_path)).module
    picture = torch.randn(2, 3, 8, 8)
    assert widths(found) == [8, 32]
    assert torch.allclose(found(picture), net(picture), atol=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.parametrize("together", [False, True])
def test_real_networks_stay_whole_and_cost_less(name: str, together: bool, tmp_path: Path) -> None:
    module = torchvision.models.get_model(name, weights=None)
    step = PruneChannels(0.4, global_pruning=together, importance="l1", round_to=8)
    after = step.apply(Net(module), small(tmp_path)).module
    assert macs(after, SMALL) < 0.75 * macs(module, SMALL)
    assert classes_of(after, SMALL) == 1000
    assert all(width % 8 == 0 for width in widths(after))
    assert head_of(after, SMALL).classes == 1000
    (after(torch.zeros(2, 3, 64, 64)).sum()).backward()


def test_several_rounds_reach_the_same_share_as_one(tmp_path: Path) -> None:
    one = PruneChannels(0.5, round_to=4).apply(Net(tiny()), context(tmp_path)).module
    four = PruneChannels(0.5, round_to=4, iterative_steps=4).apply(Net(tiny()), context(tmp_path)).module
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

    after = PruneChannels(0.5, round_to=8).apply(Net(Grouped()), context(tmp_path)).module
    assert widths(after) == [8, 16]
    assert classes_of(after, context(tmp_path).preprocessing) == 4


def test_auxiliary_classifiers_go_before_pruning(tmp_path: Path) -> None:
    with torch.random.fork_rng([]):
        module = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    after = PruneChannels(0.5).rehearse(Net(module), small(tmp_path)).module
    assert after.aux1 is None
    assert after.train()(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


def test_a_step_that_rounding_undoes_is_refused(tmp_path: Path) -> None:
    assert message(PruneChannels(0.05), Net(tiny()), context(tmp_path)) == (
        "ratio = 0.05 with round_to = 16 removes nothing: the widest layer, body.0, has 32 channels and rounds back "
        "to 32; raise ratio or lower round_to"
    )


def test_emptying_a_layer_is_refused_by_its_name(tmp_path: Path) -> None:
    net = tiny()
    with torch.no_grad():
        for parameter in net.stem.parameters():
            parameter.zero_()
    step = PruneChannels(0.6, "bn_scale", global_pruning=True, round_to=1)
    assert message(step, Net(net), context(tmp_path)) == (
        "would remove all 16 channels of stem.0; lower ratio, or set global_pruning = false"
    )


def test_what_cannot_be_pruned_is_refused(tmp_path: Path) -> None:
    place, step = context(tmp_path), PruneChannels(0.5)
    assert message(PruneChannels(0.5, ignore=("bod",)), Net(tiny()), place).startswith("ignore: no layer 'bod'; the ne")
    assert message(step, Net(tiny(), Quantization()), place).startswith("pruning after quantize would undo it")
    program = torch.export.export(tiny(), (torch.zeros(2, 3, 8, 8),)).module()
    assert message(step, Net(program), place).startswith("an exported program cannot be pruned; give the model as")
    bare = replace(place, data=data(test=4))
    assert message(PruneChannels(0.5, "taylor"), Net(tiny()), bare).startswith("importance taylor needs training pict")


def coupled(scores: list[float], repeat: int = 1) -> Coupled:
    return Coupled(f"layer{len(scores)}", torch.tensor(scores), repeat, nn.Identity(), None)


def test_removals_are_ranked_together_or_layer_by_layer() -> None:
    groups = [coupled([1.0, 2, 3, 4]), coupled([5.0, 6, 7, 8, 9, 10])]
    initial = {group.name: group.width for group in groups}
    assert removals(groups, initial, 0.5, together=False) == [2, 3]
    assert removals(groups, initial, 0.5, together=True) == [4, 1]
    assert removals(groups, {"layer4": 8, "layer6": 12}, 0.5, together=True) == [0, 0]


def test_widths_are_rounded_to_the_nearest_multiple_and_never_to_nothing() -> None:
    wide = coupled([0.0] * 64)
    assert [rounded(wide, removed, 16) for removed in (0, 7, 9, 19, 63)] == [64, 64, 48, 48, 16]
    assert rounded(coupled([0.0] * 16), 9, 16) == 16
    assert rounded(coupled([0.0] * 24), 2, 16) == 16
    assert rounded(coupled([0.0] * 16, repeat=4), 8, 16) == 8
