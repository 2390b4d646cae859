"""How an OpenVINO graph becomes int8: which ranges, and who corrects the biases."""

import numpy as np
import pytest

from tests.backends.test_openvino_bias import mean_outputs
from tests.backends.tiny import SHAPE, tiny_images, tiny_onnx
from toolchain.backends import Calibration, openvino_int8
from toolchain.backends.openvino_graph import graph_from_onnx


@pytest.mark.parametrize("odd", [1, 40])
def test_the_ranges_are_those_whose_answers_are_nearer_to_the_models(odd, tmp_path, monkeypatch):
    """Few images of extremes among many that are alike widen every range, unless ranges are means; of many, means cut
    off what half of the images have."""
    extremes = np.broadcast_to(np.indices(SHAPE).sum(0).astype(np.uint8) % 2 * 255, (odd, *SHAPE))
    images = np.concatenate([120 + tiny_images(40) // 16, extremes])
    graph = graph_from_onnx(tiny_onnx(tmp_path / "in.onnx"))

    def distance(result):
        return np.square(openvino_int8._answers(result, images) - openvino_int8._answers(graph, images)).mean()

    chosen = distance(openvino_int8.quantize(graph, Calibration(images)))
    alone = {}
    for ranges in openvino_int8.RANGES:
        monkeypatch.setattr(openvino_int8, "RANGES", (ranges,))
        alone[ranges] = distance(openvino_int8.quantize(graph, Calibration(images)))
    assert alone["means"] != alone["extremes"]
    assert chosen == min(alone.values())


def test_the_same_images_give_the_same_graph_twice(tmp_path):
    graph, images = graph_from_onnx(tiny_onnx(tmp_path / "in.onnx")), tiny_images(16)
    one, two = (openvino_int8.quantize(graph, Calibration(images)) for _ in range(2))
    assert (mean_outputs(one, images) == mean_outputs(two, images)).all()
    assert [node.get_friendly_name() for node in one.get_ordered_ops()] == [
        node.get_friendly_name() for node in two.get_ordered_ops()
    ]
