from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, data, tiny
from toolchain.compress import TABLE, steps_from
from toolchain.compress.measured import accuracy
from toolchain.compress.saved import weights_digest
from toolchain.compress.step import Context, Net, Step

KINDS = tuple(name for name in TABLE if name.startswith(("distill", "born")))
# What each kind takes to show itself in a few epochs of a few batches
SHORT: dict[str, dict[str, Any]] = {"born_again": {"epochs": 2}, "distill_hints": {"hint_epochs": 1}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def step(kind: str, **changes: Any) -> Step:
    options = {"epochs": 3, "batch_size": 16, "augment": ["crop"], "lr": 0.1, **SHORT.get(kind, {}), **changes}
    [(_, found)] = steps_from(({kind: options},), "test")
    return found


def taught(folder: Path, **changes: Any) -> Context:
    """The contract's context, and an original net to teach."""
    return context(folder, **{"original": tiny, **changes})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_steps_contract(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.compress.contract.context", taught)
    keeps_the_contract(kind, step(kind), tmp_path)
