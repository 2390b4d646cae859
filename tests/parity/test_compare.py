"""Distances, agreement, tolerances, and the message when two ways of running a model disagree."""

import numpy as np
import pytest

from toolchain.errors import ParityError
from toolchain.parity import TOLERANCES, Original, compare, compare_three_ways, require_parity

NAMES = ("torch fp32", "openvino int8")
TORCH = Original("torch")
LOGITS = np.array([[4.0, 1, 0], [0, -5, 2], [1, 0, 3]], np.float32)


def test_equal_outputs_have_no_distance():
    record = compare(LOGITS, LOGITS.copy(), NAMES, "fp32")
    assert (record.max_abs, record.mean_abs, record.relative, record.top1_agreement) == (0, 0, 0, 1)
    assert record.passed
    assert (record.reference, record.candidate, record.images) == (*NAMES, 3)


def test_distances_are_over_all_logits_and_the_worst_image_is_named():
    moved = LOGITS.copy()
    moved[1, 2] += 1.5
    record = compare(LOGITS, moved, NAMES, "int8")
    assert record.max_abs == pytest.approx(1.5)
    assert record.mean_abs == pytest.approx(1.5 / 9)
    assert record.relative == pytest.approx(0.3)
    assert record.worst_index == 1
    assert record.passed


def test_the_precision_decides_the_tolerance_unless_one_is_given():
    moved = LOGITS + np.float32(0.05)
    assert not compare(LOGITS, moved, NAMES, "fp32").passed
    assert compare(LOGITS, moved, NAMES, "bf16").passed
    assert not compare(LOGITS, moved, NAMES, "bf16", tolerance=0.001).passed
    assert compare(LOGITS, moved, NAMES, "fp32", tolerance=0.1).tolerance == 0.1


def test_small_distances_with_other_predictions_do_not_agree():
    ties = np.array([[1.0, 1.0001], [2, 0], [0, 2]], np.float32)
    flipped = ties.copy()
    flipped[0] = flipped[0, ::-1]
    record = compare(ties, flipped, NAMES, "fp32")
    assert record.relative < TOLERANCES["fp32"].relative
    assert record.top1_agreement == pytest.approx(2 / 3)
    assert not record.passed
    assert compare(ties, flipped, NAMES, "fp32", agreement_floor=0.6).passed


def test_all_zeros_never_pass_for_int8():
    assert not compare(LOGITS, np.zeros_like(LOGITS), NAMES, "int8").passed


def test_a_reference_of_zeros_agrees_only_with_zeros():
    zeros = np.zeros_like(LOGITS)
    assert compare(zeros, zeros, NAMES, "fp32").relative == 0
    assert not compare(zeros, LOGITS, NAMES, "int8", agreement_floor=0.0).passed


@pytest.mark.parametrize(("value", "side"), [(np.nan, 0), (np.nan, 1), (np.inf, 1)])
def test_an_output_that_is_not_finite_names_the_side_and_the_image(value, side):
    pair = [LOGITS.copy(), LOGITS.copy()]
    pair[side][1, 0] = value
    with pytest.raises(ParityError, match=f"{NAMES[side]}: 1 of 3 outputs contain NaN or infinity, first for image 1"):
        compare(pair[0], pair[1], NAMES, "int8")


@pytest.mark.parametrize("other", [LOGITS[:2], LOGITS[:, :2], LOGITS[0]])
def test_shapes_that_differ_are_both_reported(other):
    with pytest.raises(ParityError, match=r"openvino int8 returned \[.*\], torch fp32 \[3, 3\]; expected the same"):
        compare(LOGITS, other, NAMES, "int8")


def test_a_comparison_without_images_is_refused():
    with pytest.raises(ParityError, match=r"returned \[0, 3\]"):
        compare(LOGITS[:0], LOGITS[:0], NAMES, "fp32")


def test_three_ways_are_compared_on_every_side():
    engine = {"fp32": LOGITS, "int8": LOGITS}
    pairs = [
        (record.reference, record.candidate) for record in compare_three_ways(TORCH, LOGITS, LOGITS, engine, "openvino")
    ]
    assert pairs == [
        ("torch fp32", "onnxruntime fp32"),
        ("torch fp32", "openvino fp32"),
        ("onnxruntime fp32", "openvino fp32"),
        ("torch fp32", "openvino int8"),
    ]


def test_a_model_that_came_as_onnx_is_compared_with_the_file_as_it_is():
    near = LOGITS * 1.005  # the rounding of 16 bits: too much for fp32, not for a file that computes at 16 bits itself
    for half, passes in ((Original("net.onnx", "fp16"), True), (Original("net.onnx"), False)):
        records = compare_three_ways(half, LOGITS, near, {"fp32": near}, "openvino")
        names = [(record.reference.split()[0], record.candidate) for record in records]
        assert names == [
            ("net.onnx", "onnxruntime fp32"),
            ("net.onnx", "openvino fp32"),
            ("onnxruntime", "openvino fp32"),
        ]
        assert [record.passed for record in records] == [passes, passes, True]


def test_nothing_is_raised_when_all_agree():
    require_parity(compare_three_ways(TORCH, LOGITS, LOGITS, {"fp32": LOGITS}, "openvino"))


@pytest.mark.parametrize(
    ("names", "precision", "advice"),
    [
        (("torch fp32", "openvino int8"), "int8", "calibrate on more images"),
        (("torch fp32", "openvino bf16"), "bf16", "remove this precision"),
        (("torch fp32", "onnxruntime fp32"), "fp32", "the export changed the model"),
        (("onnxruntime fp32", "openvino fp32"), "fp32", "try --target=onnxruntime"),
    ],
)
def test_the_worst_pair_and_image_are_named_with_what_to_do(names, precision, advice):
    far = LOGITS.copy()
    far[2] = -far[2] * 9
    records = (compare(LOGITS, LOGITS, NAMES, "fp32"), compare(LOGITS, far, names, precision))
    with pytest.raises(
        ParityError, match=f"{names[1]} differs from {names[0]}: relative 6 .*the worst is image 2;.*{advice}"
    ):
        require_parity(records)


def test_with_few_outputs_the_distance_decides_and_not_an_agreement_that_says_nothing() -> None:
    one, moved = np.array([[1.0], [2.0], [-1.0]]), np.array([[1.0], [1.1], [-1.0]])  # 45 % off
    assert not compare(one, moved, NAMES, "int8").passed
    assert compare(one, one * 1.2, NAMES, "int8").passed
    assert (compare(one, one, NAMES, "int8").tolerance, compare(LOGITS, LOGITS, NAMES, "fp32").tolerance) == (0.3, 1e-3)
