"""The arithmetic of one layer, against the definition of pmaddubsw written out pair by pair."""

import numpy as np
import pytest

from toolchain.backends.saturation.arithmetic import (
    IntegerLayer,
    SaturationMeter,
    can_saturate,
    excess,
    input_columns,
    risky_pairs,
    weight_pairs,
)


def layer(weights, **options):
    return IntegerLayer("conv", np.asarray(weights, np.int8), options.pop("zero_point", 0), **options)


def random_layer(rng, shape, **options):
    return layer(rng.integers(-127, 128, shape), **options)


def pmaddubsw(columns, weights):
    """Sums of two products each, stopped at 16 bits, added up: [positions, outputs]."""
    sums = np.einsum("ptk,otk->pot", columns.astype(np.int64), weights.astype(np.int64))
    return np.clip(sums, -32768, 32767).sum(2)


@pytest.mark.parametrize(
    "options", [{}, {"strides": (2, 1), "pads": (1, 1, 1, 1), "zero_point": 9}, {"dilations": (2, 2), "groups": 2}]
)
def test_what_saturation_loses_is_what_the_instruction_loses(options):
    rng = np.random.default_rng(0)
    one = random_layer(rng, (6, 4 // options.get("groups", 1), 3, 3), **options)
    image = rng.integers(128, 256, (4, 9, 8)).astype(np.uint8)
    columns, pairs = input_columns(one, image), weight_pairs(one)
    groups = np.split(np.arange(6), one.groups)
    for group, outputs in enumerate(groups):
        weights = pairs[outputs]
        exact = np.einsum("ptk,otk->po", columns[group].astype(np.int64), weights)
        lost, stopped = excess(columns[group], weights, risky_pairs(weights))
        assert stopped
        np.testing.assert_array_equal(exact - lost, pmaddubsw(columns[group], weights))


def test_the_columns_are_those_of_a_convolution():
    import torch

    rng = np.random.default_rng(1)
    one = random_layer(rng, (5, 3, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1))
    image = rng.integers(0, 256, (3, 8, 8)).astype(np.uint8)
    exact = np.einsum("ptk,otk->op", input_columns(one, image)[0].astype(np.int64), weight_pairs(one))
    expected = torch.conv2d(
        torch.from_numpy(image)[None].double(), torch.from_numpy(one.weights).double(), stride=2, padding=1
    )
    np.testing.assert_array_equal(exact, expected.numpy().reshape(5, -1))


def test_two_large_products_stop_at_32767():
    one = layer(np.full((1, 2, 1, 1), 127))
    meter = SaturationMeter(one)
    meter.add(np.array([255, 255], np.uint8))
    meter.add(np.array([255, 1], np.uint8))
    found = meter.result()
    assert found is not None
    assert found.sums == 0.5
    assert found.error == pytest.approx((2 * 255 * 127 - 32767) / np.sqrt(2) / (254 * 127 / 2), rel=1e-6)


def test_weights_of_seven_bits_cannot_saturate_and_larger_ones_can():
    assert not can_saturate(layer(np.full((1, 2, 1, 1), 64)))
    assert not can_saturate(layer(np.full((1, 2, 1, 1), -64)))
    assert can_saturate(layer(np.full((1, 2, 1, 1), 65)))
    assert not can_saturate(layer([[[[127]], [[-127]]]])), "of opposite signs"
    assert not can_saturate(layer([[[[127]], [[1]], [[1]], [[127]]]])), "not in one pair"


def test_a_depthwise_convolution_adds_no_pairs():
    one = layer(np.full((8, 1, 3, 3), 127), groups=8)
    assert not can_saturate(one)
    meter = SaturationMeter(one)
    meter.add(np.full((8, 5, 5), 255, np.uint8))
    assert meter.result() is None


def test_a_large_layer_is_sampled_evenly():
    image = np.zeros((2, 64, 64), np.uint8)
    assert input_columns(layer(np.ones((1, 2, 1, 1))), image).shape == (1, 256, 1, 2)
    assert input_columns(layer(np.ones((1, 2, 1, 1))), image, None).shape == (1, 4096, 1, 2)
