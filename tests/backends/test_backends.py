"""Every back end of the table against the one contract, and what only one of them does."""

import numpy as np
import pytest

from deploy.runtime.engines.null import NullArtifact
from tests.backends.contract import check_backend, check_refusals
from tests.backends.tiny import SHAPE, pictures, tiny_onnx
from toolchain.backends import TABLE, Calibration, backend
from toolchain.backends.isa import needed_isa
from toolchain.backends.null import Zeros
from toolchain.errors import BackendError, UsageError
from toolchain.records.manifest import Candidate

EVERY = [(name, precision) for name in TABLE for precision in backend(name).PRECISIONS]


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_a_backend_keeps_the_contract(name, precision, tmp_path):
    check_backend(name, precision, tmp_path, answers=name != "null")


@pytest.mark.parametrize("name", TABLE)
def test_what_a_backend_cannot_build_is_refused_in_one_line(name, tmp_path):
    check_refusals(name, tmp_path)


def test_an_unknown_target_is_answered_with_those_there_are():
    with pytest.raises(UsageError, match="no target 'tensorflow'; there are: openvino, onnxruntime, null"):
        backend("tensorflow")


def test_bf16_is_the_same_file_as_fp32_and_int8_a_smaller_one(tmp_path):
    onnx, openvino = tiny_onnx(tmp_path / "in.onnx"), backend("openvino")
    fp32, bf16 = (openvino.build(onnx, tmp_path, precision, None) for precision in ("fp32", "bf16"))
    int8 = openvino.build(onnx, tmp_path, "int8", Calibration(pictures(8)))
    assert fp32.files == bf16.files == ("model.xml", "model.bin")
    assert int8.files == ("model-int8.xml", "model-int8.bin")
    assert (tmp_path / "model-int8.bin").stat().st_size < (tmp_path / "model.bin").stat().st_size


def test_the_presets_differ_and_an_unknown_one_is_named(tmp_path):
    onnx, openvino = tiny_onnx(tmp_path / "in.onnx"), backend("openvino")
    for preset in ("mixed", "performance"):
        openvino.build(onnx, tmp_path / preset, "int8", Calibration(pictures(8), preset))
    mixed, performance = ((tmp_path / name / "model-int8.xml").read_bytes() for name in ("mixed", "performance"))
    assert mixed != performance
    with pytest.raises(BackendError, match="no quantization preset 'fast'; there are: mixed, performance"):
        openvino.build(onnx, tmp_path, "int8", Calibration(pictures(8), "fast"))


def test_bias_correction_changes_what_is_built(tmp_path):
    onnx, openvino = tiny_onnx(tmp_path / "in.onnx"), backend("openvino")
    ways = ("fast", "exact", "off")
    for way in ways:
        openvino.build(onnx, tmp_path / way, "int8", Calibration(pictures(32), bias_correction=way))
    assert len({(tmp_path / way / "model-int8.bin").read_bytes() for way in ways}) == len(ways)


@pytest.mark.parametrize("calibration", [None, Calibration(np.zeros((0, *SHAPE), np.uint8))])
def test_int8_without_pictures_says_which_step_is_missing(calibration, tmp_path):
    with pytest.raises(BackendError, match=r"int8 needs calibration pictures and got none; add `quantize = \{\}`"):
        backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "int8", calibration)


def test_calibration_shows_our_progress_on_stderr_and_nothing_on_stdout(tmp_path, capfd):
    backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "int8", Calibration(pictures(8)))
    assert capfd.readouterr().out == ""


def test_the_null_file_is_the_one_that_its_engine_reads(tmp_path):
    assert Zeros.__struct_fields__ == NullArtifact.__struct_fields__
    module = backend("null")
    candidate = module.build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None, delay_ms=3.0)
    assert candidate.options == {"delay_ms": 3.0}
    assert b'"delay_ms": 3.0' in (tmp_path / "model.null.json").read_bytes()


def test_only_bf16_needs_more_than_avx2():
    assert needed_isa(Candidate("bf16", "openvino", (), 0)) == ("avx512_bf16",)
    assert needed_isa(Candidate("int8", "openvino", (), 0)) == ("avx2",)
    assert needed_isa(Candidate("fp32", "onnxruntime", (), 0)) == ()
