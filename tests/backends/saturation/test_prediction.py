"""Predictions and safe weights of real artifacts, and what OpenVINO computes where it may not use VNNI."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest

from tests.backends.test_openvino_graph import learned_onnx, onnx_logits
from tests.backends.tiny import tiny_images, tiny_onnx
from toolchain.backends import Calibration, backend
from toolchain.backends.saturation.from_onnx import predict_from_onnx, quantized_nodes
from toolchain.backends.saturation.narrow import narrow_weights, narrowed_grid
from toolchain.errors import BackendError

CPU_BACKENDS = ("openvino", "onnxruntime")
FULL = {"full_range": True}


def bright(count):
    return np.maximum(tiny_images(count), 128)


def built(name, source, folder, options=None, calibration=None):
    module = backend(name)
    candidate = module.build(source, folder, "int8", calibration, options=options or {})
    return candidate, module.predict_saturation(source, folder, candidate, lambda: bright(4))


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_learned_weights_of_eight_bits_are_narrowed_and_full_range_is_predicted(name, tmp_path):
    source = learned_onnx(tmp_path / "in.onnx", 127)
    _, safe = built(name, source, tmp_path / "safe")
    _, full = built(name, source, tmp_path / "full", FULL)
    assert safe.is_excluded
    assert (safe.layers, full.layers, full.images) == (1, 1, 4)
    [worst] = full.saturating
    assert worst.sums > 0.01
    assert worst.error > 0.01
    assert "1 of 1 layers, worst: " in full.describe()


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_quantization_after_training_is_safe_unless_full_range_is_asked_for(name, tmp_path):
    source, calibration = tiny_onnx(tmp_path / "in.onnx"), Calibration(tiny_images(8))
    _, safe = built(name, source, tmp_path / "safe", calibration=calibration)
    _, full = built(name, source, tmp_path / "full", FULL, calibration)
    assert safe.is_excluded
    assert safe.layers == full.layers == 3
    assert not full.is_excluded


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_full_range_is_true_or_false(name, tmp_path):
    with pytest.raises(BackendError, match=rf"\[target.{name}\] full_range = 1: expected true or false"):
        built(name, learned_onnx(tmp_path / "in.onnx", 7), tmp_path, {"full_range": 1})


def test_both_back_ends_predict_the_same(tmp_path):
    source = learned_onnx(tmp_path / "in.onnx", 127)
    first, second = (built(name, source, tmp_path / name, FULL)[1] for name in CPU_BACKENDS)
    assert first.saturating[0].sums == pytest.approx(second.saturating[0].sums, rel=1e-3)
    assert first.saturating[0].error == pytest.approx(second.saturating[0].error, rel=1e-3)


def test_narrow_weights_leaves_what_is_safe_already(tmp_path):
    model = onnx.load(learned_onnx(tmp_path / "in.onnx", 7))
    before = model.SerializeToString()
    assert narrow_weights(model) == ()
    assert model.SerializeToString() == before


def test_narrowed_weights_are_nearly_the_same(tmp_path):
    model = onnx.load(learned_onnx(tmp_path / "in.onnx", 127))
    assert narrow_weights(model) == ("w",)
    [node] = quantized_nodes(model)
    assert np.abs(node.layer.weights.astype(int)).max() == 64
    onnx.save(model, tmp_path / "narrow.onnx")
    expected, found = (onnx_logits(tmp_path / name, tiny_images(3)) for name in ("in.onnx", "narrow.onnx"))
    np.testing.assert_allclose(found, expected, atol=1e-2 * np.abs(expected).max())
    assert predict_from_onnx(model, lambda: bright(1)).is_excluded


def test_only_channels_that_do_not_fit_get_another_scale():
    weights, scale = np.array([[100, -3], [20, 64]], np.int8), np.array([1.0, 2.0], np.float32)
    fewer, wider = narrowed_grid(weights, scale, 0)
    np.testing.assert_array_equal(fewer, [[64, -2], [20, 64]])
    np.testing.assert_allclose(wider, [100 / 64, 2.0])


CAPPED = """
import sys
import numpy as np
from pathlib import Path
from deploy.runtime.engines import Settings, open_engine
from deploy.runtime.engines.saturation import adds_at_16_bits_here
from tests.backends.saturation.test_prediction import bright
from toolchain.records.manifest import Candidate
assert adds_at_16_bits_here()
for folder in ("safe", "full"):
    place = Path(sys.argv[1]) / folder
    name = next(path.name for path in place.iterdir() if path.suffix in (".xml", ".packed"))
    with open_engine(place, Candidate("int8", "openvino", (name,), 0), Settings(1)) as engine:
        np.save(place.with_suffix(".npy"), engine.infer({"image": bright(4)})["logits"])
"""


def test_openvino_without_vnni_computes_the_safe_form_exactly_and_loses_as_predicted_in_full_range(tmp_path):
    source = learned_onnx(tmp_path / "in.onnx", 127)
    built("openvino", source, tmp_path / "safe")
    _, full = built("openvino", source, tmp_path / "full", FULL)
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    subprocess.run([sys.executable, "-c", CAPPED, str(tmp_path)], env=environment, check=True)
    expected = onnx_logits(source, bright(4))  # Q/DQ as written: no integer kernels
    safe, lossy = (np.load(tmp_path / f"{name}.npy") for name in ("safe", "full"))
    off_safe, off_full = (np.abs(found - expected).max() / np.abs(expected).max() for found in (safe, lossy))
    assert off_safe < 0.01
    assert off_full > 0.03
    assert full.saturating
