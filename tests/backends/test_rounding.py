"""Weights rounded to a few bits: how large the error is, and which codes are used."""

import numpy as np
import pytest

from toolchain.backends.rounding import round_to_bits

WEIGHTS = np.random.default_rng(4).normal(0, 0.1, (16, 288)).astype(np.float32)


def error(bits, **options):
    """Mean squared error over the weights' variance."""
    codes, scales = round_to_bits(WEIGHTS, bits, **options)
    return float(np.square((codes * scales).reshape(WEIGHTS.shape) - WEIGHTS).mean() / WEIGHTS.var())


@pytest.mark.parametrize(
    ("bits", "most"),
    # the best uniform quantizer of a normal distribution has 0.363, 0.119 and 0.0115 (Max 1960)
    [(8, 1e-4), (4, 0.0125), (2, 0.125), (1, 0.37)],
)
def test_the_error_is_that_of_the_best_uniform_quantizer(bits, most):
    assert error(bits) < most


@pytest.mark.parametrize("bits", [4, 2])
def test_clipping_and_groups_make_the_error_smaller(bits):
    assert error(bits) < error(bits, clip=False)
    assert error(bits, group=24) < error(bits)


@pytest.mark.parametrize(
    ("bits", "codes"), [(4, set(range(-8, 8))), (2, {-3, -1, 1, 3}), (1, {-1, 1})], ids=["4", "2", "1"]
)
def test_codes_fit_the_width(bits, codes):
    assert set(np.unique(round_to_bits(WEIGHTS, bits).codes)) <= codes


def test_one_bit_is_the_sign_times_the_mean():
    codes, scales = round_to_bits(WEIGHTS, 1)
    np.testing.assert_array_equal(codes[:, 0] > 0, WEIGHTS >= 0)
    np.testing.assert_allclose(scales[:, 0, 0], np.abs(WEIGHTS).mean(1), rtol=1e-5)


def test_a_channel_of_zeros_stays_finite_and_nearly_zero():
    for bits in (8, 4):
        codes, scales = round_to_bits(np.zeros((2, 9), np.float32), bits)
        assert not (codes * scales).any()


def test_a_group_that_does_not_divide_a_row_is_the_whole_row():
    assert round_to_bits(WEIGHTS, 4, group=1000).scales.shape == (16, 1, 1)
    assert round_to_bits(WEIGHTS, 4, group=32).scales.shape == (16, 9, 1)
