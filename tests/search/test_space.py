"""The space: what a recipe may say of it, and what is drawn from it."""

from pathlib import Path
from typing import Any, get_args

import msgspec
import optuna
import pytest

from toolchain.compress.pruning.importance import Importance
from toolchain.errors import RecipeError
from toolchain.recipe import SearchSpec, parse_recipe
from toolchain.search.space import SearchSpace, _require_choice, fit_epochs

SPACE = SearchSpace(
    (0.0, 0.7), ("l2", "taylor"), (8, 16), (True, False), (0, 4), (1.0, 0.75), ("ptq", "qat"), ("distill",), (0.01, 0.1)
)
RECIPE = """
name = "net"
[model]
source = "cifar:resnet20"
[input]
height = 32
width = 32
[data]
name = "cifar10"
[search]
"""


def test_importances_are_those_of_the_step() -> None:
    field = next(field for field in msgspec.structs.fields(SearchSpec) if field.name == "importance")
    named = {word for part in get_args(get_args(field.type)[0]) for word in get_args(part)}
    assert named == set(get_args(Importance))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("channel_ratio = [0.7, 0.1]", r"search.channel_ratio = \[0.7, 0.1\]: the lowest number comes first"),
        ("channel_ratio = [0.1, 1.5]", r"search.channel_ratio"),
        ("quantization = []", r"search.quantization"),
        ('training = ["distil"]', r"search.training"),
        ("ratio = 0.3", r"no key `ratio`; did you mean channel_ratio\?|\[search\]: no key `ratio`"),
    ],
)
def test_a_space_that_cannot_be_is_refused_with_its_place(line: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(RECIPE + line, Path("net.toml"))


@pytest.mark.parametrize(
    "params",
    [
        {"channel_ratio": 0.0, "blocks": 2},
        {"channel_ratio": 0.35, "importance": "taylor", "round_to": 16, "residual": False, "blocks": 0},
    ],
)
def test_what_is_drawn_is_a_proposal(params: dict[str, Any]) -> None:
    shared = {"input_scale": 0.75, "quantization": "qat", "training": "distill", "lr": 0.0234}
    proposal = SPACE.suggest(optuna.trial.FixedTrial({**params, **shared}))
    assert {name: getattr(proposal, name) for name in params} == params
    assert (proposal.input_scale, proposal.quantization, proposal.lr) == (0.75, "qat", 0.023)


def test_a_space_of_one_recipe_is_refused_and_one_where_nothing_applies() -> None:
    one = SearchSpace((0.3, 0.3), ("l2",), (8,), (True,), (0, 0), (1.0,), ("ptq",), ("distill",), (0.01, 0.01))
    with pytest.raises(RecipeError, match="leaves a single recipe"):
        _require_choice(one, "net.toml")
    none = SearchSpace(
        (0.0, 0.7), ("l2",), (8,), (True,), (0, 0), (1.0,), (), ("distill",), (0.01, 0.1), ("qat: left out: x",)
    )
    with pytest.raises(RecipeError, match=r"search.quantization: nothing that it names applies \(qat: left out: x\)"):
        _require_choice(none, "net.toml")
    _require_choice(SPACE, "net.toml")


def test_few_images_are_looked_at_more_often() -> None:
    assert fit_epochs(SearchSpec(), 48_000, 128) == (1, 3, 8)
    assert fit_epochs(SearchSpec(), 784, 128) == (34, 102, 272)
    assert fit_epochs(SearchSpec(epochs=(2, 4)), 784, 128) == (2, 4)
