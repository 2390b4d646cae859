"""A recipe from a model and a folder: what is found, written, refused, and built."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tests.init.drawn import NETWORK, draw_folder, train_network
from toolchain.build.pipeline import build
from toolchain.errors import ModelError, ToolchainError, UsageError
from toolchain.init.propose import InitRequest, Proposal, propose_recipe
from toolchain.init.questions import Asker
from toolchain.init.trial_build import build_trial
from toolchain.paths import HOME
from toolchain.recipe import read_recipe
from toolchain.workflows.evaluate import evaluate_accuracy

NOBODY = Asker(may_ask=False)


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME, str(tmp_path / "home"))


def propose(base: Path, model: str, weights: Path | None = None, out: str = "recipe.toml") -> Proposal:
    data = base / "images"
    if not data.exists():
        draw_folder(data)
    return propose_recipe(InitRequest(model, data, base / out, weights), NOBODY)


def save(base: Path, net: nn.Module, name: str = "some.pth") -> str:
    torch.save(net.state_dict(), base / name)
    return str(base / name)


def small_net(classes: int = 3) -> nn.Module:
    return models.shufflenet_v2_x0_5(weights=None, num_classes=classes)


@pytest.mark.slow
def test_a_recipe_of_a_function_builds_with_the_order_of_channels_that_was_found(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NETWORK.replace(".flip(0)", ""))  # answers right where blue comes first
    proposal = propose(tmp_path, f"{tmp_path / 'net.py'}:colours")
    assert (proposal.input.order, proposal.input.height, proposal.not_found) == ("bgr", 16, ())
    text = (tmp_path / "recipe.toml").read_text()
    assert text.startswith("#:schema ./recipe.schema.json\n")
    assert (tmp_path / "recipe.schema.json").is_file()
    assert build(tmp_path / "recipe.toml", "null", None).manifest.labels == ("blue", "green", "red")
    assert evaluate_accuracy(str(tmp_path / "recipe.toml"), None).accuracy > 0.9


@pytest.mark.slow
def test_a_checkpoint_trained_on_bytes_gets_bytes(tmp_path: Path) -> None:
    data = draw_folder(tmp_path / "images", side=32)
    net = train_network(small_net(), data, "rgb", 1.0)
    proposal = propose(tmp_path, save(tmp_path, net))
    assert proposal.source == "torchvision:shufflenet_v2_x0_5"
    assert (proposal.input.scale, proposal.input.height) == (1, 32)


@pytest.mark.slow
def test_a_network_with_other_layers_comes_with_the_module_that_builds_it(tmp_path: Path) -> None:
    net = small_net()
    net.fc = nn.Sequential(nn.Dropout(), nn.Linear(1024, 3))
    proposal = propose(tmp_path, save(tmp_path, net))
    assert proposal.source == "some_network.py:build"
    assert "nn.Sequential(nn.Identity(), nn.Linear(1024, 3))" in (tmp_path / "some_network.py").read_text()


@pytest.mark.slow
def test_an_untrained_network_is_said_to_be_no_better_than_chance(tmp_path: Path) -> None:
    proposal = propose(tmp_path, save(tmp_path, small_net().eval()))
    assert any("chance" in line for line in proposal.not_found)
    assert "# NOT FOUND OUT: " in (tmp_path / "recipe.toml").read_text()


@pytest.mark.slow
def test_a_head_for_other_classes_is_replaced_and_trained_for_some_hundred_updates(tmp_path: Path) -> None:
    propose(tmp_path, save(tmp_path, models.resnet18(weights=None, num_classes=8)))  # has few layers to export
    [step, _] = read_recipe(tmp_path / "recipe.toml").step
    assert step["finetune"]["replace_head"]
    assert step["finetune"]["epochs"] * 48 / step["finetune"]["batch_size"] >= 300
    bundle = build_trial(tmp_path / "recipe.toml", "null")
    assert (bundle.manifest.release, bundle.manifest.name) == ("try", "some-try")
    assert sorted(path.name for path in tmp_path.glob("*.toml")) == ["recipe.toml"]


def test_what_exists_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text("mine")
    with pytest.raises(UsageError, match=r"init overwrites nothing; write elsewhere: --out=.*recipe-2.toml"):
        propose(tmp_path, save(tmp_path, small_net()))
    assert (tmp_path / "recipe.toml").read_text() == "mine"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nothing.pth", "no such file; expected a checkpoint"),
        ("nothing.py:make", "no such file or function"),
        ("torchvision:resnet81", "the nearest are: resnet18"),
    ],
)
def test_a_model_that_is_none_is_refused_in_one_line(tmp_path: Path, model: str, message: str) -> None:
    with pytest.raises((UsageError, ModelError), match=message) as refusal:
        propose(tmp_path, model)
    assert "\n" not in str(refusal.value)


def test_a_refusal_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "some.pth").write_bytes(b"no checkpoint")
    with pytest.raises(ToolchainError):
        propose(tmp_path, str(tmp_path / "some.pth"))
    assert not list(tmp_path.glob("recipe*"))
