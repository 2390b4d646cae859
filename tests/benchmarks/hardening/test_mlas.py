"""ONNX Runtime's int8 without VNNI, computed: the sums are those of the instruction, and safe weights lose nothing."""

import numpy as np
import pytest
import torch

from benchmarks.hardening.mlas import saturating_logits, saturating_sums
from tests.backends.test_openvino_graph import learned_onnx, onnx_logits
from tests.backends.tiny import tiny_images
from toolchain.backends.saturation.arithmetic import IntegerLayer


@pytest.mark.parametrize("options", [{}, {"strides": (2, 1), "pads": (1, 1, 1, 1)}, {"dilations": (2, 2), "groups": 2}])
def test_pairs_are_neighbours_in_the_row_of_places_and_channels(options):
    rng = np.random.default_rng(0)
    groups = options.get("groups", 1)
    layer = IntegerLayer("conv", rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8), 0, **options)
    images = torch.from_numpy(rng.integers(150, 256, (2, 3 * groups, 7, 7)).astype(np.int32))
    found = saturating_sums(layer, images)
    top, left, bottom, right = layer.pads
    padded = torch.nn.functional.pad(images, (left, right, top, bottom)).numpy()
    output, y, x = 3, 1, 1
    first = output // (4 // groups) * 3
    rows = y * layer.strides[0] + layer.dilations[0] * np.arange(3)
    columns = x * layer.strides[1] + layer.dilations[1] * np.arange(3)
    row = padded[1, first : first + 3][:, rows][:, :, columns].transpose(1, 2, 0).ravel()
    weights = layer.weights[output].astype(np.int64).transpose(1, 2, 0).ravel()
    products = np.pad(row * weights, (0, 1)).reshape(-1, 2).sum(1)
    assert np.abs(products).max() > 32768
    assert int(found[1, output, y, x]) == np.clip(products, -32768, 32767).sum()


def test_weights_that_cannot_saturate_give_what_the_graph_says_and_others_less(tmp_path):
    images = np.maximum(tiny_images(3), 128)
    distances = {}
    for high in (7, 127):
        path = learned_onnx(tmp_path / f"{high}.onnx", high)
        expected, found = onnx_logits(path, images), saturating_logits(path, images)
        distances[high] = np.abs(found - expected).max() / np.abs(expected).max()
    assert distances[7] < 1e-4
    assert distances[127] > 0.02
