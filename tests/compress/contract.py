"""What every compression step must keep to; called by each step's tests."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from tests.compress.nets import context, tiny
from toolchain.compress.metrics import apply_step, example_input
from toolchain.compress.serialization import load_compressed, save_compressed, weights_digest
from toolchain.compress.step import CompressedModel, Step
from toolchain.models.check import class_count


def keeps_the_contract(name: str, step: Step, folder: Path, make: Callable[[], nn.Module] = tiny) -> None:
    """The given model stays unchanged; the dry run has the result's shape; the result runs, is recorded and saved;
    applying the step again in its folder gives the same result."""
    model, place = CompressedModel(make()), context(folder)
    before = weights_digest(model.module)
    step.check(place)
    trial = step.dry_run(deepcopy(model), place)
    after, record = apply_step(name, step, model, place)
    assert weights_digest(model.module) == before
    assert [p.shape for p in trial.module.parameters()] == [p.shape for p in after.module.parameters()]
    assert trial.quantization == after.quantization
    assert not any(part.training for part in after.module.modules())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in after.module.parameters())
    assert class_count(after.module, place.preprocessing) == len(place.data.classes)
    assert (record.step, record.history) == (name, after.history)
    assert record.accuracy_validate is not None
    save_compressed(after, folder / "kept" / "net.pt")
    kept, image = load_compressed(folder / "kept" / "net.pt"), example_input(after.module, place.preprocessing)
    with torch.no_grad():
        assert torch.equal(kept.module(image), after.module(image))
    again = step.apply(model, place)
    assert weights_digest(again.module) == weights_digest(after.module)
