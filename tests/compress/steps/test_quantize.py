"""The orders to the back end: what they hand on, what they refuse, and that they come last."""

import re
from typing import Any

import pytest

from tests.compress.contract import keeps_the_contract
from tests.compress.nets import context, tiny
from toolchain.compress import check_order, check_steps, parse_steps
from toolchain.compress.step import CompressedModel, LearnedQuantization, Quantization, WeightRounding
from toolchain.compress.steps.quantize import Quantize
from toolchain.compress.steps.quantize_weights import QuantizeWeights
from toolchain.errors import RecipeError

PLACE = "x.toml"


@pytest.mark.parametrize(
    ("name", "step"),
    [("quantize", Quantize(ignore=("head",))), ("quantize_weights", QuantizeWeights(bits=4, ignore=("stem.*",)))],
)
def test_every_quantize_option_keeps_the_steps_contract(name, step, tmp_path):
    keeps_the_contract(name, step, tmp_path)


def test_the_model_carries_the_request_and_stays_as_it_is(tmp_path):
    model, place = CompressedModel(tiny()), context(tmp_path)
    for step in (Quantize(samples=7, max_drop=0.5, per_channel=False), QuantizeWeights(bits=4, group=32)):
        model = step.apply(model, place)
    model = QuantizeWeights(bits=1, keep_ends=False).apply(model, place)
    assert model.quantization == Quantization(samples=7, max_drop=0.5, per_channel=False)
    assert model.rounding == (WeightRounding(4, group=32), WeightRounding(1, keep_ends=False))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"quantize_weights": {"bits": 3}}, "step 1, quantize_weights, bits: invalid enum value 3"),
        ({"quantize_weights": {"group": 1}}, "step 1, quantize_weights, group: expected `int` >= 2"),
        ({"quantize": {"samples": 0}}, "step 1, quantize, samples: expected `int` >= 1"),
        ({"quantize": {"max_drop": -0.1}}, "step 1, quantize, max_drop: expected `float` >= 0.0"),
        ({"quantize": {"preset": "fast"}}, "step 1, quantize, preset: invalid enum value 'fast'"),
    ],
)
def test_options_that_do_not_fit_are_said_with_their_place(raw: dict[str, dict[str, Any]], message):
    with pytest.raises(RecipeError, match=f"^{re.escape(f'{PLACE}: {message}')}"):
        parse_steps((raw,), PLACE)


@pytest.mark.parametrize("step", [{"quantize": {"ignore": ["boddy.0"]}}, {"quantize_weights": {"ignore": ["boddy.0"]}}])
def test_a_layer_that_is_not_there_is_answered_with_the_nearest(step, tmp_path):
    with pytest.raises(RecipeError, match=r"step 1, \w+: ignore: no layer 'boddy.0'; the nearest are: body.0, "):
        check_steps(parse_steps((step,), PLACE), CompressedModel(tiny()), context(tmp_path), PLACE)


@pytest.mark.parametrize("option", [{"samples": 8}, {"max_drop": 1.0}, {"smooth": True}])
def test_dynamic_ranges_need_no_calibration_and_say_so(option, tmp_path):
    steps = parse_steps(({"quantize": {"dynamic": True, **option}},), PLACE)
    with pytest.raises(
        RecipeError, match=f"dynamic = true needs no calibration, so {next(iter(option))} has no effect"
    ):
        check_steps(steps, CompressedModel(tiny()), context(tmp_path), PLACE)


def test_what_stands_already_is_not_ordered_again(tmp_path):
    place = context(tmp_path)
    with pytest.raises(RecipeError, match="the weights are rounded to 4 bits already; one such step is enough"):
        QuantizeWeights(bits=4).apply(QuantizeWeights(bits=4).apply(CompressedModel(tiny()), place), place)
    with pytest.raises(RecipeError, match="the model learned its quantization in training; quantize_weights would"):
        QuantizeWeights().apply(CompressedModel(tiny(), learned=LearnedQuantization(4, 8)), place)


def test_quantize_follows_quantize_and_nothing_else_follows():
    check_order(
        parse_steps(({"quantize_weights": {}}, {"quantize": {}}, {"quantize_weights": {"bits": 4}}), PLACE), PLACE
    )
    with pytest.raises(RecipeError, match=r"step 2, finetune: comes after quantize_weights \(step 1\), whose result"):
        check_order(parse_steps(({"quantize_weights": {}}, {"finetune": {}}), PLACE), PLACE)
    with pytest.raises(RecipeError, match="step 3, quantize: step 1 quantizes already; remove one of them"):
        check_order(parse_steps(({"quantize": {}}, {"quantize_weights": {}}, {"quantize": {}}), PLACE), PLACE)
