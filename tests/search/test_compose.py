"""A proposal becomes a recipe that a build reads."""

from pathlib import Path

import msgspec
import pytest

from toolchain.compress import check_order, parse_steps
from toolchain.errors import RecipeError
from toolchain.recipe import DataSpec, ModelSpec, Recipe, parse_recipe
from toolchain.recipe_toml import format_recipe
from toolchain.records.tensors import Preprocessing
from toolchain.search.compose import RecipeBase, relocate, split_steps
from toolchain.search.proposal import SearchProposal

MODEL = ModelSpec("nets.py:net", weights="net.safetensors", labels="labels.txt")
RECIPE = Recipe("net", MODEL, Preprocessing(32, 24, resize=40), DataSpec("folder", "data"))
BASE = RecipeBase(RECIPE, (), {"samples": 100}, (1, 3, 8), 1.0)
CUT = SearchProposal(channel_ratio=0.4, importance="l1", round_to=16, residual=False, blocks=2)


def names_of(recipe: Recipe) -> list[str]:
    return [name for step in recipe.step for name in step]


@pytest.mark.parametrize(
    ("changes", "steps"),
    [
        ({}, ["prune_blocks", "prune_channels", "distill", "distill", "quantize"]),
        ({"blocks": 0, "training": "finetune"}, ["prune_channels", "finetune", "finetune", "quantize"]),
        ({"quantization": "qat"}, ["prune_blocks", "prune_channels", "distill", "distill", "qat"]),
        ({"quantization": "none", "channel_ratio": 0.0}, ["prune_blocks", "distill", "distill"]),
        ({"channel_ratio": 0.0, "blocks": 0, "quantization": "qat"}, ["qat", "distill"]),
    ],
)
def test_a_proposal_becomes_steps_in_an_order_that_works(changes: dict[str, object], steps: list[str]) -> None:
    recipe = BASE.compose(msgspec.structs.replace(CUT, **changes), 2)
    assert names_of(recipe) == steps
    again = parse_recipe(format_recipe(recipe), Path("found.toml"))
    assert (again.step, again.model, again.input, again.build) == (recipe.step, MODEL, recipe.input, recipe.build)
    check_order(parse_steps(again.step, "found.toml"), "found.toml")


def test_what_is_trained_further_has_the_same_steps_before() -> None:
    for quantization in ("ptq", "none"):
        proposal = msgspec.structs.replace(CUT, quantization=quantization)
        short, long = (BASE.compose(proposal, rungs).step for rungs in (1, 2))
        trained = short[:3]
        assert long[: len(trained)] == trained


def test_names_tell_recipes_and_trainings_apart() -> None:
    other = msgspec.structs.replace(CUT, blocks=1)
    found = {BASE.compose(proposal, rungs).name for proposal in (CUT, other) for rungs in (1, 2)}
    assert len(found) == 4
    assert BASE.compose(None, 0).name == "net-uncut"


def test_points_that_lead_to_one_recipe_have_one_key() -> None:
    uncut = SearchProposal(importance="l1", round_to=16)
    assert uncut.key == SearchProposal().key
    assert CUT.key != msgspec.structs.replace(CUT, importance="l2").key


def test_the_net_that_is_timed_is_not_trained_and_looks_at_no_accuracy() -> None:
    base = RecipeBase(RECIPE, (), {"samples": 100, "max_drop": 0.5}, (1,), 1.0)
    recipe = base.compose_cut(msgspec.structs.replace(CUT, quantization="qat"), 32)
    assert names_of(recipe) == ["prune_blocks", "prune_channels", "quantize"]
    assert recipe.step[-1]["quantize"] == {"samples": 32, "bias_correction": "off"}


def test_the_recipe_keeps_its_own_steps_first_and_the_floor_that_was_asked_for() -> None:
    base = RecipeBase(RECIPE, ({"finetune": {"epochs": 1}},), {"samples": 100}, (1,), 1.5)
    recipe = base.compose(CUT, 1)
    assert names_of(recipe)[0] == "finetune"
    assert (recipe.build.max_accuracy_loss, recipe.build.refuse, recipe.search) == (1.5, False, None)


def test_a_smaller_input_shrinks_what_is_resized_too() -> None:
    found = BASE.compose(msgspec.structs.replace(CUT, input_scale=0.75), 1).input
    assert (found.height, found.width, found.resize) == (24, 18, 30)


def test_paths_read_the_same_from_the_folder_of_the_recipes() -> None:
    step = {"distill": {"teachers": [{"source": "nets.py:big", "weights": "big.safetensors"}]}}
    moved = relocate(msgspec.structs.replace(RECIPE, step=(step,)), Path("/a/b"), Path("/a/c/d"))
    assert (moved.model.source, moved.model.weights) == ("../../b/nets.py:net", "../../b/net.safetensors")
    assert (moved.model.labels, moved.data and moved.data.path) == ("../../b/labels.txt", "../../b/data")
    assert moved.step[0]["distill"]["teachers"] == [
        {"source": "../../b/nets.py:big", "weights": "../../b/big.safetensors", "options": {}}
    ]
    builtin = Recipe("net", ModelSpec("cifar:resnet20", weights="official"), Preprocessing(32, 32), DataSpec("cifar10"))
    assert relocate(builtin, Path("/a/b"), Path("/a/c/d")) == builtin


def test_a_recipe_that_is_quantized_in_training_is_refused_and_weights_alone_are_left_out() -> None:
    quantized = msgspec.structs.replace(RECIPE, step=({"qat": {}},))
    with pytest.raises(RecipeError, match=r"net.toml: step 1, qat: a quantized net cannot be cut"):
        split_steps(quantized, "net.toml")
    steps = ({"quantize": {"samples": 10}}, {"quantize_weights": {"bits": 4}})
    before, quantize, lines = split_steps(msgspec.structs.replace(RECIPE, step=steps), "net.toml")
    assert (before, quantize, lines) == (
        (), {"samples": 10}, ["step 2, quantize_weights: not searched; left out"],
    )  # fmt: skip
