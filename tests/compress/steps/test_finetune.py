from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, data, tiny
from toolchain.compress import parse_steps
from toolchain.compress.metrics import accuracy
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import CompressedModel
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.training.freezing import parameter_groups
from toolchain.errors import ModelError, RecipeError


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def step(**changes: Any) -> Finetune:
    return Finetune(**{"epochs": 3, "batch_size": 16, "augment": ("crop",), "lr": 0.1, **changes})


def digest(finetune: Finetune, folder: Path, model: CompressedModel | None = None) -> str:
    return weights_digest(finetune.apply(model or CompressedModel(tiny()), context(folder)).module)


def test_finetune_keeps_the_steps_contract(tmp_path: Path) -> None:
    keeps_the_contract("finetune", step(ema_decay=0.9, augment=("flip", "crop"), label_smoothing=0.1), tmp_path)


def test_of_equally_good_epochs_the_last_is_kept(tmp_path: Path) -> None:
    still = {"lr": 1e-6, "lr_end": 1e-6, "schedule": "constant"}  # weights move, answers do not
    bare = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 4)).eval()
    last = step(keep_best=False, **still).apply(CompressedModel(bare), context(tmp_path / "a"))
    assert len({entry["accuracy_validate"] for entry in last.history}) == 1
    assert digest(step(**still), tmp_path / "b", CompressedModel(bare)) == weights_digest(last.module)


def test_training_learns_and_records_every_epoch(tmp_path: Path, messages: list[str]) -> None:
    place = context(tmp_path)
    after = step(epochs=6).apply(CompressedModel(tiny()), place)
    assert [entry["epoch"] for entry in after.history] == [1, 2, 3, 4, 5, 6]
    assert after.history[-1]["loss"] < after.history[0]["loss"]
    best = max(entry["accuracy_validate"] for entry in after.history)
    assert accuracy(after.module, place.data.split("validate"), place.preprocessing, "validate") == best > 0.6
    assert len(messages) == 6
    assert messages[0].startswith("epoch 1/6: loss ")
    assert messages[0].endswith("s left")


def test_the_seed_decides_the_weights_and_nothing_else_does(tmp_path: Path) -> None:
    first = digest(step(), tmp_path / "a", CompressedModel(tiny(dropout=0.2)))
    torch.manual_seed(99)
    assert digest(step(), tmp_path / "b", CompressedModel(tiny(dropout=0.2))) == first
    assert digest(step(seed=6), tmp_path / "c", CompressedModel(tiny(dropout=0.2))) != first


def test_a_checkpoint_of_other_options_is_not_taken_up(tmp_path: Path) -> None:
    alone = digest(step(lr=0.05), tmp_path / "alone")
    digest(step(), tmp_path / "shared")
    assert digest(step(lr=0.05), tmp_path / "shared") == alone


def test_a_damaged_checkpoint_means_training_again(tmp_path: Path) -> None:
    first = digest(step(), tmp_path)
    (tmp_path / "training.pt").write_bytes(b"not a checkpoint")
    assert digest(step(), tmp_path) == first


def test_the_last_epoch_is_kept_without_validation_images(tmp_path: Path) -> None:
    place = replace(context(tmp_path), data=data(train=40))
    after = step(ema_decay=0.5).apply(CompressedModel(tiny()), place)
    assert "accuracy_validate" not in after.history[-1]
    assert weights_digest(after.module) != weights_digest(tiny())


def test_a_part_smaller_than_a_batch_is_one_batch(tmp_path: Path) -> None:
    assert len(step(batch_size=1000).apply(CompressedModel(tiny()), context(tmp_path)).history) == 3


def test_a_frozen_backbone_keeps_weights_and_statistics(tmp_path: Path) -> None:
    before = tiny(classes=7)
    after = step(freeze="backbone", replace_head=True).apply(CompressedModel(before), context(tmp_path)).module
    old, new = before.state_dict(), after.state_dict()
    assert new["head.weight"].shape == (4, 32)
    assert all(torch.equal(old[name], new[name]) for name in old if not name.startswith("head"))


def test_what_is_frozen_by_name_learns_after_unfreeze_after(tmp_path: Path) -> None:
    before = tiny().state_dict()
    frozen = (
        step(freeze=("stem",), keep_best=False)
        .apply(CompressedModel(tiny()), context(tmp_path / "a"))
        .module.state_dict()
    )
    thawed = (
        step(freeze=("stem",), unfreeze_after=2, keep_best=False)
        .apply(CompressedModel(tiny()), context(tmp_path / "b"))
        .module
    )
    assert torch.equal(frozen["stem.0.weight"], before["stem.0.weight"])
    assert torch.equal(frozen["stem.1.running_mean"], before["stem.1.running_mean"])
    assert not torch.equal(frozen["body.0.weight"], before["body.0.weight"])
    assert not torch.equal(thawed.state_dict()["stem.0.weight"], before["stem.0.weight"])


def learning_by_epoch(finetune: Finetune, module: nn.Module) -> list[set[str]]:
    """The tops of the parameters that learn, epoch by epoch."""
    ready = finetune._start_epoch(finetune._frozen_by_epoch(module, "head"))
    found = []
    for epoch in range(finetune.epochs):
        ready(module, epoch)
        found.append({name.split(".")[0] for name, one in module.named_parameters() if one.requires_grad})
    return found


def test_layers_thaw_on_a_schedule(tmp_path: Path) -> None:
    schedule = step(epochs=4, freeze="backbone", unfreeze={"1": ("body",), "3": ("stem",)})
    assert learning_by_epoch(schedule, tiny()) == [
        {"head"},
        {"body", "head"},
        {"body", "head"},
        {"stem", "body", "head"},
    ]
    both = step(epochs=4, freeze="backbone", unfreeze={"1": ("body",)}, unfreeze_after=2)
    assert learning_by_epoch(both, tiny())[1:3] == [{"body", "head"}, {"stem", "body", "head"}]
    assert len(schedule.apply(CompressedModel(tiny()), context(tmp_path)).history) == 4


def test_a_schedule_is_written_as_a_table() -> None:
    [(_, found)] = parse_steps(({"finetune": {"freeze": "backbone", "unfreeze": {"3": ["stem"]}}},), "x.toml")
    assert isinstance(found, Finetune)
    assert found.unfreeze == {"3": ("stem",)}
    with pytest.raises(RecipeError, match=r"x\.toml: step 1, finetune, .*unfreeze"):
        parse_steps(({"finetune": {"unfreeze": {"first": ["stem"]}}},), "x.toml")


def test_each_stage_towards_the_input_learns_more_slowly() -> None:
    module = tiny()
    groups = parameter_groups(module, "head", 1e-4, 0.5, 0.1)
    name_of = {id(parameter): name for name, parameter in module.named_parameters()}
    factors = {name_of[id(one)]: group["factor"] for group in groups for one in group["params"]}
    assert factors["head.weight"] == factors["head.bias"] == 1
    assert factors["body.0.weight"] == factors["body.1.bias"] == pytest.approx(0.05)
    assert factors["stem.0.weight"] == factors["stem.1.weight"] == pytest.approx(0.005)
    assert groups[-1]["factor"] == 1
    assert len(parameter_groups(module, "head", 1e-4, 0.5)) == 4


def test_mixed_images_and_mixed_precision_train_too(tmp_path: Path) -> None:
    every = ("flip", "crop", "color", "erase", "mixup", "cutmix")
    after = step(epochs=2, augment=every, mixed_precision="on", label_smoothing=0.1).apply(
        CompressedModel(tiny()), context(tmp_path)
    )
    assert all(0 <= entry["accuracy_train"] <= 1 for entry in after.history)
    assert all(parameter.dtype == torch.float32 for parameter in after.module.parameters())


def test_the_accuracy_on_the_training_batches_is_recorded(tmp_path: Path) -> None:
    history = step(epochs=6, augment=()).apply(CompressedModel(tiny()), context(tmp_path)).history
    assert history[-1]["accuracy_train"] > max(0.6, history[0]["accuracy_train"])
    assert history[-1]["accuracy_train"] * 96 % 1 == 0


def test_a_backbone_factor_of_zero_leaves_the_backbones_weights(tmp_path: Path) -> None:
    after = (
        step(backbone_lr_factor=0.0, keep_best=False)
        .apply(CompressedModel(tiny()), context(tmp_path))
        .module.state_dict()
    )
    assert torch.equal(after["body.0.weight"], tiny().state_dict()["body.0.weight"])
    assert not torch.equal(after["head.weight"], tiny().state_dict()["head.weight"])


def test_a_diverging_training_stops_and_says_where(tmp_path: Path) -> None:
    class Explodes(nn.Module):
        """Answers NaN from its tenth training batch on."""

        def __init__(self) -> None:
            super().__init__()
            self.net, self.seen = tiny(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.seen += self.training
            answer: Tensor = self.net(x)
            return answer * float("nan") if self.seen > 9 else answer

    with pytest.raises(ModelError) as error:
        step().apply(CompressedModel(Explodes()), context(tmp_path))
    assert str(error.value) == (
        "the loss became nan in epoch 2, step 4 of 6 (the checkpoint after epoch 1 is kept); "
        "lower the learning rate: lr = 0.02 instead of 0.1, or add warmup_epochs = 1"
    )
    assert torch.load(tmp_path / "training.pt", weights_only=True)["epoch"] == 1


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        (step(warmup_epochs=3.0), "warmup_epochs = 3 of 3 epochs: expected fewer"),
        (step(lr_end=0.2), "lr_end = 0.2 is above lr = 0.1; expected at most lr"),
        (step(momentum=0.0), "nesterov needs momentum above 0; set nesterov = false"),
        (step(unfreeze_after=1), 'unfreeze_after without freeze; name the frozen layers: freeze = "backbone"'),
        (step(unfreeze_after=3, freeze="backbone"), "unfreeze_after = 3 of 3 epochs: expected fewer"),
        (step(unfreeze={"1": ("*",)}), 'unfreeze without freeze; name the frozen layers: freeze = "backbone"'),
        (step(unfreeze={"3": ("*",)}, freeze="backbone"), "unfreeze = 3 of 3 epochs: expected fewer"),
        (
            step(unfreeze={"2": ("*",)}, freeze="backbone", unfreeze_after=2),
            "unfreeze: after 2 epochs all layers are trained already (unfreeze_after = 2)",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(finetune: Finetune, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        finetune.check(context(tmp_path))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("finetune", "message"),
    [
        (step(), "the model has 7 classes, data 'made' has 4; set replace_head = true"),
        (step(replace_head=True, freeze=("boddy",)), "freeze: no layer 'boddy'; the nearest are: body, body.2, body.1"),
        (step(replace_head=True, freeze=("*",)), "freeze = ['*'] leaves nothing to train"),
        (
            step(replace_head=True, freeze=("stem",), unfreeze={"1": ("sten",)}),
            "unfreeze.1: no layer 'sten'; the nearest are: stem, stem.2, stem.1",
        ),
        (
            step(replace_head=True, freeze=("stem",), unfreeze={"1": ("body",)}),
            "unfreeze.1: 'body' is not frozen; name layers that freeze covers",
        ),
    ],
)
def test_what_does_not_fit_the_model_is_refused(finetune: Finetune, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        finetune.dry_run(CompressedModel(tiny(classes=7)), context(tmp_path))
    assert str(error.value) == message


def test_data_without_training_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="data 'made' has no training images; choose data with a train split"):
        step().check(replace(context(tmp_path), data=data(test=8)))
