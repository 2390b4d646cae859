import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.compress.nets import context, tiny
from toolchain.compress import TABLE, check_order, check_steps, parse_steps
from toolchain.compress.step import CompressedModel
from toolchain.compress.steps.finetune import Finetune
from toolchain.compress.steps.prune_channels import PruneChannels
from toolchain.compress.steps.quantize import Quantize
from toolchain.errors import RecipeError

PLACE = "recipes/x.toml"


def refused(*raw: dict[str, dict[str, Any]]) -> str:
    with pytest.raises(RecipeError) as error:
        parse_steps(raw, PLACE)
    return str(error.value)


def test_a_recipes_steps_are_read_in_their_order() -> None:
    raw: tuple[dict[str, dict[str, Any]], ...] = (
        {"prune_channels": {"ratio": 0.5}},
        {"finetune": {"epochs": 2, "lr": 1}},
        {"quantize": {}},
    )
    assert parse_steps(raw, PLACE) == (
        ("prune_channels", PruneChannels(ratio=0.5)),
        ("finetune", Finetune(epochs=2, lr=1.0)),
        ("quantize", Quantize()),
    )


def test_every_step_of_the_table_can_be_read_without_options() -> None:
    for name in TABLE:
        assert [found for found, _ in parse_steps(({name: {}},), PLACE)] == [name]


def test_an_unknown_step_is_named_with_its_place() -> None:
    assert refused({"quantize": {}}, {"prune_chanels": {}}) == (
        f"recipes/x.toml: step 2: no step 'prune_chanels'; did you mean prune_channels? There are: {', '.join(TABLE)}"
    )
    assert refused({"zzz": {}}).startswith("recipes/x.toml: step 1: no step 'zzz'. There are: ")


def test_an_unknown_option_is_named_with_those_there_are() -> None:
    assert refused({"prune_channels": {"ration": 0.3}}) == (
        "recipes/x.toml: step 1, prune_channels: no option 'ration'; it has: ratio, importance, global_pruning, "
        "round_to, iterative_steps, ignore, samples, macs_times_fewer, latency_times_faster, residual, "
        "unprunable, finetune_epochs, lr, batch_size, augment"
    )


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"prune_channels": {"ratio": 1.5}}, "step 1, prune_channels, ratio: expected `float` < 1.0"),
        ({"prune_channels": {"ratio": "half"}}, "step 1, prune_channels, ratio: expected `float | null`, got `str`"),
        ({"prune_channels": {"importance": "l3"}}, "step 1, prune_channels, importance: invalid enum value 'l3'"),
        ({"finetune": {"epochs": 0}}, "step 1, finetune, epochs: expected `int` >= 1"),
        ({"finetune": {"augment": ["flip", "blur"]}}, "step 1, finetune, augment[1]: invalid enum value 'blur'"),
        ({"quantize": {}, "finetune": {}}, "step 1: expected one step in a [[step]] table, found quantize, finetune"),
        ({}, "step 1: expected one step in a [[step]] table, found nothing"),
    ],
)
def test_what_does_not_fit_is_reported_with_its_place(raw: dict[str, dict[str, Any]], message: str) -> None:
    assert refused(raw).startswith(f"recipes/x.toml: {message}")


def test_nothing_may_come_after_quantize() -> None:
    twice = parse_steps(({"quantize": {}}, {"quantize": {}}), PLACE)
    with pytest.raises(RecipeError, match=r"^recipes/x.toml: step 2, quantize: step 1 quantizes already; remove one"):
        check_order(twice, PLACE)
    trained = parse_steps(({"quantize": {}}, {"finetune": {}}), PLACE)
    with pytest.raises(RecipeError, match=r"step 2, finetune: comes after quantize \(step 1\), whose result it would"):
        check_order(trained, PLACE)
    check_order(parse_steps(({"finetune": {}}, {"quantize": {}}), PLACE), PLACE)


def test_a_chain_is_tried_in_a_dry_run_before_any_training(tmp_path: Path) -> None:
    steps = (
        ("prune_channels", PruneChannels(ratio=0.5, round_to=8)),
        ("finetune", Finetune(epochs=1000, freeze=("boddy",))),
    )
    with pytest.raises(RecipeError) as error:
        check_steps(steps, CompressedModel(tiny()), context(tmp_path), PLACE)
    assert str(error.value).startswith(
        "recipes/x.toml: step 2, finetune: freeze: no layer 'boddy'; the nearest are: body"
    )
    assert not list(tmp_path.iterdir())


def test_reading_the_table_needs_no_torch() -> None:
    code = "import sys, toolchain.compress; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
