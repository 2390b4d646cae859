import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, tiny
from toolchain.compress.metrics import accuracy, sparsity
from toolchain.compress.serialization import weights_digest
from toolchain.compress.step import CompressedModel, LearnedQuantization, Quantization
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.steps.sparsify_gradually import SparsifyGradually
from toolchain.errors import RecipeError

STEPS = 6  # of an epoch: 96 images, 16 at a time


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def step(**changes: Any) -> SparsifyGradually:
    return SparsifyGradually(**{"epochs": 4, "batch_size": 16, "lr": 0.1, "augment": ("crop",), **changes})


def zeros(model: CompressedModel) -> dict[str, float]:
    return {name: float((model.module.get_parameter(name) == 0).float().mean()) for name in model.sparse}


def message(gradual: SparsifyGradually, model: CompressedModel, folder: Path) -> str:
    with pytest.raises(RecipeError) as error:
        gradual.check(context(folder))
        gradual.dry_run(model, context(folder))
    return str(error.value)


@pytest.mark.parametrize("gradual", [step(ema_decay=0.9), step(scope="layer", classifier=True, every_steps=2)])
def test_sparsify_gradually_keeps_the_steps_contract(gradual: SparsifyGradually, tmp_path: Path) -> None:
    keeps_the_contract("sparsify_gradually", gradual, tmp_path)


def test_the_share_rises_by_the_cube_between_two_epochs() -> None:
    gradual = step(epochs=10, sparsity=0.8, initial_sparsity=0.2, begin_epoch=2, end_epoch=6)
    shares = [gradual.sparsity_at(epoch * STEPS, STEPS) for epoch in range(10)]
    assert shares[:2] == [None, None]
    assert shares[2:7] == pytest.approx([0.2, 0.8 - 0.6 * 0.75**3, 0.8 - 0.6 / 8, 0.8 - 0.6 / 64, 0.8])
    assert shares[7:] == [None, None, None]
    assert gradual.sparsity_at(2 * STEPS + 1, STEPS) is None


def test_every_so_many_steps_and_at_the_end_whatever_they_are() -> None:
    gradual = step(sparsity=0.5, end_epoch=2, every_steps=5)
    found = [done for done in range(4 * STEPS) if gradual.sparsity_at(done, STEPS) is not None]
    assert found == [0, 5, 10, 12]
    assert gradual.sparsity_at(12, STEPS) == 0.5


def test_it_learns_and_ends_at_its_share(tmp_path: Path, messages: list[str]) -> None:
    place = context(tmp_path)
    after = step(epochs=8, sparsity=0.7, every_steps=3).apply(CompressedModel(tiny()), place)
    total = sum(after.module.get_parameter(name).numel() for name in after.sparse)
    assert sum(int((after.module.get_parameter(name) == 0).sum()) for name in after.sparse) == int(0.7 * total)
    assert after.sparse == ("stem.0.weight", "body.0.weight")
    assert accuracy(after.module, place.data.split("validate"), place.preprocessing, "validate") > 0.6
    assert len(after.history) == 8
    assert messages[-1] == "70.0% of the weights in 2 layers are zero"


def test_an_epoch_before_the_end_is_never_the_best(tmp_path: Path) -> None:
    after = step(lr=1e-9, sparsity=0.9, scope="layer", end_epoch=3).apply(CompressedModel(tiny()), context(tmp_path))
    assert all(share == pytest.approx(0.9, abs=3e-3) for share in zeros(after).values())


def test_the_running_average_has_the_zeros_too(tmp_path: Path) -> None:
    after = step(ema_decay=0.99, scope="layer", sparsity=0.5).apply(CompressedModel(tiny()), context(tmp_path))
    assert zeros(after) == {"stem.0.weight": 0.5, "body.0.weight": 0.5}


def test_zeros_stay_in_the_training_after_it_and_those_before_it_too(tmp_path: Path) -> None:
    module = tiny()
    with torch.no_grad():
        module.head.weight[:, :8] = 0
    after = step(scope="layer").apply(CompressedModel(module, sparse=("head.weight",)), context(tmp_path / "a"))
    tuned = Finetune(epochs=2, batch_size=16, augment=()).apply(after, context(tmp_path / "b"))
    assert set(after.sparse) == {"head.weight", "stem.0.weight", "body.0.weight"}
    assert zeros(tuned) == zeros(after)
    assert zeros(tuned)["head.weight"] == 0.25


class Dies(nn.Module):
    """Tiny, killed in the middle of an epoch: at its so-manieth batch in training, never when that is none."""

    def __init__(self, killed_at: int = 0) -> None:
        super().__init__()
        self.net, self.left = tiny(dropout=0.2), killed_at

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.left -= self.training
        if self.training and not self.left:
            os.kill(os.getpid(), signal.SIGKILL)
        answer: torch.Tensor = self.net(x)
        return answer


KILLED = """
import sys
from pathlib import Path
import torch
from tests.compress.nets import context
from tests.compress.steps.test_sparsify_gradually import STEPS, Dies, step
from toolchain.compress.step import CompressedModel
torch.set_num_threads(int(sys.argv[3]))
gradual = step(every_steps=int(sys.argv[2]) or None, ema_decay=0.9)
gradual.apply(CompressedModel(Dies(2 * STEPS + 4)), context(Path(sys.argv[1])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("every_steps", [None, 4])
def test_killed_in_an_epoch_it_ends_with_the_weights_of_an_uninterrupted_one(
    every_steps: int | None, tmp_path: Path, messages: list[str]
) -> None:
    gradual = step(every_steps=every_steps, ema_decay=0.9)
    words = [str(tmp_path / "killed"), str(every_steps or 0), str(torch.get_num_threads())]
    # not forked off this process: torch cannot train in a fork of one that has trained and exported before
    assert subprocess.run([sys.executable, "-c", KILLED, *words], check=False).returncode == -signal.SIGKILL
    resumed = gradual.apply(CompressedModel(Dies()), context(tmp_path / "killed"))
    straight = gradual.apply(CompressedModel(Dies()), context(tmp_path / "straight"))
    assert messages[0] == "resuming after epoch 2 of 4"
    assert weights_digest(resumed.module) == weights_digest(straight.module)
    assert sparsity(resumed.module) > 0.7


@pytest.mark.parametrize(
    ("gradual", "expected"),
    [
        (step(epochs=1), "epochs = 1: expected at least 2, so that the last one can recover; or use sparsify"),
        (step(initial_sparsity=0.9), "initial_sparsity = 0.9 of sparsity = 0.8: expected less"),
        (step(end_epoch=4), "end_epoch = 4 of 4 epochs: expected fewer, the rest recovers"),
        (step(begin_epoch=3), "begin_epoch = 3, end_epoch = 3: expected an earlier begin"),
        (step(ignore=("bodi",)), "ignore: no layer 'bodi'; the nearest are: body, body.2, body.1"),
    ],
)
def test_what_cannot_be_done_is_refused(gradual: SparsifyGradually, expected: str, tmp_path: Path) -> None:
    assert message(gradual, CompressedModel(tiny()), tmp_path) == expected


def test_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    assert message(step(), CompressedModel(tiny(), Quantization()), tmp_path).startswith(
        "training after quantize would undo it"
    )
    learned = CompressedModel(tiny(), learned=LearnedQuantization(4, None))
    assert message(step(), learned, tmp_path).startswith("zeroing weights after quantization would undo it")
    module = tiny()
    with torch.no_grad():
        module.get_parameter("stem.0.weight").mul_(1e-3)
    assert message(step(sparsity=0.9), CompressedModel(module), tmp_path).startswith(
        "sparsity = 0.9 over all layers would zero all 432 weights of stem.0.weight"
    )
