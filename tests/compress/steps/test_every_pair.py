"""Every technique composes with every other: ordered pairs of steps are applied, or refused in one line."""

import random
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compress.nets import context, residual
from toolchain.compress import INVALIDATES_QAT, POST_EXPORT_STEPS, TABLE, check_order, parse_steps
from toolchain.compress.metrics import example_input
from toolchain.compress.step import CompressedModel, Step
from toolchain.errors import RecipeError

TRAINED = {"epochs": 1, "batch_size": 16}
OPTIONS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(TABLE, TRAINED),
    "born_again": {**TRAINED, "generations": 1},
    "distill_self": {**TRAINED, "layers": ["stem", "blocks.2"]},
    "prune_blocks": {"count": 1},
    "prune_channels": {"ratio": 0.5, "round_to": 2},
    "qat": {**TRAINED, "calibration_samples": 16},
    "quantize": {},
    "quantize_weights": {"bits": 4},
    "sparsify": {},
    "sparsify_gradually": {**TRAINED, "epochs": 2},
}


def steps(*names: str) -> tuple[tuple[str, Step], ...]:
    return parse_steps(tuple({name: OPTIONS[name]} for name in names), "x.toml")


def applied(name: str, model: CompressedModel, folder: Path, **more: Any) -> CompressedModel:
    [(_, step)] = parse_steps(({name: OPTIONS[name] | more},), "x.toml")
    place = context(folder, original=residual)
    folder.mkdir()
    step.check(place)
    return step.apply(model, place)


@cache
def after(name: str, folder: Path) -> CompressedModel:
    return applied(name, CompressedModel(residual()), folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


def refused(first: str, second: str) -> bool:
    """What cannot work: anything that undoes what a grid was found for; what orders the back end comes last."""
    if second == "quantize_weights" and first in POST_EXPORT_STEPS:
        return False
    return (first in POST_EXPORT_STEPS and (second not in POST_EXPORT_STEPS or first == second)) or (
        first == "qat" and second in (*INVALIDATES_QAT, "born_again", "distill_mutual")
    )


def follow(first: str, second: str, folder: Path) -> None:
    more = {"sparsity": 0.9} if "sparsify" in second else {}  # not what the first has reached already
    net = applied(second, after(first, folder / first), folder / f"{first}-{second}", **more)
    with torch.no_grad():
        answer = net.module(example_input(net.module, context(folder).preprocessing))
    assert answer.isfinite().all(), f"{first}, {second}"


def followers(first: str) -> list[str]:
    """Steps that may come after `first`. One quantize_weights a width: tests/compress/test_quantize_weights.py"""
    return [second for second in TABLE if not refused(first, second) and not first == second == "quantize_weights"]


@pytest.mark.parametrize("first", TABLE)
def test_a_step_is_followed_by_others_or_refuses_in_one_line(first: str, folder: Path) -> None:
    """pytest-randomly's seed chooses one that follows; all of them: make test-all."""
    for second in TABLE:
        if refused(first, second):
            with pytest.raises(RecipeError, match=f"x.toml: step 2, {second}: ") as error:
                check_order(steps(first, second), "x.toml")
            assert "\n" not in str(error.value)
    for second in followers(first):
        check_order(steps(first, second), "x.toml")
    for second in random.sample(followers(first), min(1, len(followers(first)))):
        follow(first, second, folder)


@pytest.mark.exhaustive
@pytest.mark.parametrize("first", TABLE)
def test_a_step_is_followed_by_every_other(first: str, folder: Path) -> None:
    for second in followers(first):
        if not (folder / f"{first}-{second}").is_dir():  # the sample's
            follow(first, second, folder)
