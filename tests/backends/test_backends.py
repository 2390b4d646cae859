"""Every back end of the table against the shared contract, and what only one of them does."""

from functools import partial

import numpy as np
import pytest
from onnxruntime import InferenceSession, quantization

from deploy.runtime.engines import Settings, open_engine
from deploy.runtime.engines.null import NullArtifact
from tests.backends.built import tensorrt_build
from tests.backends.contract import check_backend, check_refusals
from tests.backends.tiny import SHAPE, tiny_images, tiny_onnx
from toolchain.backends import TABLE, Calibration, backend
from toolchain.backends.needs import needs_of
from toolchain.backends.null import NullModel
from toolchain.backends.openvino_graph import graph_from_onnx, layers
from toolchain.errors import BackendError, UsageError
from toolchain.records.manifest import Candidate, Needs

SLOW = {"tensorrt": pytest.mark.slow}
EVERY = [
    pytest.param(name, precision, marks=SLOW.get(name, ())) for name in TABLE for precision in backend(name).PRECISIONS
]


@pytest.mark.parametrize(("name", "precision"), EVERY)
def test_a_backend_satisfies_the_contract(name, precision, tmp_path, tmp_path_factory):
    made = None
    if name == "tensorrt":
        candidate, folder = tensorrt_build(tmp_path_factory, precision)
        made = candidate, folder / "built"
    check_backend(name, precision, tmp_path, computes=name != "null", made=made)


@pytest.mark.parametrize("name", TABLE)
def test_a_precision_that_a_backend_cannot_build_is_refused_in_one_line(name, tmp_path):
    check_refusals(name, tmp_path)


def test_an_unknown_target_is_answered_with_the_known_ones():
    with pytest.raises(
        UsageError, match="no target 'tensorflow'; the targets are: openvino, tensorrt, onnxruntime, null"
    ):
        backend("tensorflow")


def test_bf16_is_the_same_file_as_fp32_and_int8_a_smaller_one(tmp_path):
    onnx, openvino = tiny_onnx(tmp_path / "in.onnx"), backend("openvino")
    fp32, bf16 = (openvino.build(onnx, tmp_path, precision, None) for precision in ("fp32", "bf16"))
    int8 = openvino.build(onnx, tmp_path, "int8", Calibration(tiny_images(8)))
    assert fp32.files == bf16.files == ("model.xml", "model.bin")
    assert int8.files == ("model-int8.xml", "model-int8.bin")
    assert (tmp_path / "model-int8.bin").stat().st_size < (tmp_path / "model.bin").stat().st_size


def test_the_presets_differ_and_an_unknown_one_is_named(tmp_path):
    onnx, openvino = tiny_onnx(tmp_path / "in.onnx"), backend("openvino")
    for preset in ("mixed", "performance"):
        openvino.build(onnx, tmp_path / preset, "int8", Calibration(tiny_images(8), preset))
    mixed, performance = ((tmp_path / name / "model-int8.xml").read_bytes() for name in ("mixed", "performance"))
    assert mixed != performance
    with pytest.raises(BackendError, match="no quantization preset 'fast'; there are: mixed, performance"):
        openvino.build(onnx, tmp_path, "int8", Calibration(tiny_images(8), "fast"))


def test_bias_correction_changes_the_weights(tmp_path):
    onnx, openvino = tiny_onnx(tmp_path / "in.onnx"), backend("openvino")
    methods = ("fast", "exact", "off")
    for method in methods:
        openvino.build(onnx, tmp_path / method, "int8", Calibration(tiny_images(32), bias_correction=method))
    assert len({(tmp_path / method / "model-int8.bin").read_bytes() for method in methods}) == len(methods)


@pytest.mark.parametrize("calibration", [None, Calibration(np.zeros((0, *SHAPE), np.uint8))])
def test_int8_without_images_names_the_missing_step(calibration, tmp_path):
    with pytest.raises(BackendError, match=r"int8 needs calibration images and got none; add `quantize = \{\}`"):
        backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "int8", calibration)


def test_calibration_prints_nothing_on_stdout(tmp_path, capfd):
    backend("openvino").build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "int8", Calibration(tiny_images(8)))
    assert capfd.readouterr().out == ""


def test_the_null_file_is_the_one_that_its_engine_reads(tmp_path):
    assert NullModel.__struct_fields__ == NullArtifact.__struct_fields__
    module = backend("null")
    candidate = module.build(tiny_onnx(tmp_path / "in.onnx"), tmp_path, "fp32", None, options={"delay_ms": 3.0})
    assert candidate.options == {"delay_ms": 3.0}
    assert b'"delay_ms": 3.0' in (tmp_path / "model.null.json").read_bytes()


def test_the_refusal_of_a_precision_gives_the_reason(tmp_path):
    onnx = tiny_onnx(tmp_path / "in.onnx")
    with pytest.raises(
        BackendError, match=r"not int8d \(OpenVINO's CPU plugin has no convolution with ranges computed per image"
    ):
        backend("openvino").build(onnx, tmp_path, "int8d", Calibration(tiny_images(1)))
    with pytest.raises(
        BackendError, match=r"not int4w \(ONNX Runtime has no convolution with such weights; --target=ope"
    ):
        backend("onnxruntime").build(onnx, tmp_path, "int4w", None)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_small_is_one_file_with_the_same_outputs(precision, tmp_path):
    onnx, openvino, feeds = tiny_onnx(tmp_path / "in.onnx"), backend("openvino"), {"image": tiny_images(9)}
    plain = openvino.build(onnx, tmp_path / "plain", precision, None)
    small = openvino.build(onnx, tmp_path / "small", precision, None, small=True)
    assert small.files == (f"{plain.files[0].removesuffix('.xml')}.packed",)
    assert small.size_bytes < 0.5 * plain.size_bytes
    with (
        open_engine(tmp_path / "plain", plain, Settings(threads=1)) as first,
        open_engine(tmp_path / "small", small, Settings(threads=1)) as second,
    ):
        np.testing.assert_array_equal(first.infer(feeds)["logits"], second.infer(feeds)["logits"])


def test_fp16_halves_the_bytes_of_the_weights(tmp_path):
    onnx = tiny_onnx(tmp_path / "in.onnx")
    for name, file in (("openvino", "model{}.bin"), ("onnxruntime", "model{}.onnx")):
        for precision in ("fp32", "fp16"):
            candidate = backend(name).build(onnx, tmp_path, precision, None)
        assert candidate.storage == "stored, not computed, at 16 bits"
        whole, half = ((tmp_path / file.format(which)).stat().st_size for which in ("", "-fp16"))
        assert half < 0.75 * whole


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_ignored_layers_stay_float(name, tmp_path):
    onnx, module = tiny_onnx(tmp_path / "in.onnx"), backend(name)
    whole, less = (
        module.build(onnx, tmp_path / str(number), "int8", Calibration(tiny_images(8), ignore=ignore))
        for number, ignore in enumerate(((), (second_layer(onnx, name),)))
    )
    assert (tmp_path / "0" / whole.files[-1]).read_bytes() != (tmp_path / "1" / less.files[-1]).read_bytes()
    with pytest.raises(BackendError, match=r"ignore: no layer 'stem\.conv'; the nearest are: "):
        module.build(onnx, tmp_path, "int8", Calibration(tiny_images(8), ignore=("stem.conv",)))


def second_layer(onnx, name):
    return layers(graph_from_onnx(onnx))[1].name if name == "openvino" else "w2"


def test_a_scale_per_layer_gives_another_file_than_a_scale_per_channel(tmp_path):
    onnx = tiny_onnx(tmp_path / "in.onnx")
    for name, file in (("openvino", "model-int8.bin"), ("onnxruntime", "model-int8.onnx")):
        for per_channel in (True, False):
            where = tmp_path / f"{name}{per_channel}"
            backend(name).build(onnx, where, "int8", Calibration(tiny_images(8), per_channel=per_channel))
        assert (tmp_path / f"{name}True" / file).read_bytes() != (tmp_path / f"{name}False" / file).read_bytes()


def test_layers_return_to_float_until_the_drop_is_within_the_limit(tmp_path):
    onnx, openvino, checked = tiny_onnx(tmp_path / "in.onnx"), backend("openvino"), tiny_images(80)
    candidate = openvino.build(onnx, tmp_path, "fp32", None)
    with open_engine(tmp_path, candidate, Settings(threads=1)) as engine:
        labels = engine.infer({"image": checked})["logits"].argmax(1)
    float_layers = {}
    for points in (0.0, 100.0):
        calibration = Calibration(checked[:8], max_drop=points, validation=(checked, labels))
        float_layers[points] = openvino.build(onnx, tmp_path, "int8", calibration).options["float_layers"]
    assert float_layers[100.0] == 0 < float_layers[0.0]


def test_max_drop_is_refused_without_labels_and_by_onnx_runtime(tmp_path):
    onnx, calibration = tiny_onnx(tmp_path / "in.onnx"), Calibration(tiny_images(8), max_drop=0.5)
    with pytest.raises(BackendError, match="max_drop needs labelled images to measure on and got none"):
        backend("openvino").build(onnx, tmp_path, "int8", calibration)
    with pytest.raises(BackendError, match="ONNX Runtime's quantizer does not measure accuracy; remove max_drop, or"):
        backend("onnxruntime").build(onnx, tmp_path, "int8", calibration)


@pytest.mark.parametrize("option", [{"smooth": True}, {"bias_correction": "exact"}])
def test_options_that_onnx_runtimes_quantizer_lacks_are_refused(option, tmp_path):
    onnx, calibration = tiny_onnx(tmp_path / "in.onnx"), Calibration(tiny_images(8), **option)
    message = f"quantizer does not support {next(iter(option))}.*; remove it, or --target=openvino"
    with pytest.raises(BackendError, match=message):
        backend("onnxruntime").build(onnx, tmp_path, "int8", calibration)


def test_both_presets_reach_onnx_runtime(tmp_path):
    onnx = tiny_onnx(tmp_path / "in.onnx")
    contents = set()
    for preset in ("mixed", "performance"):
        candidate = backend("onnxruntime").build(onnx, tmp_path / preset, "int8", Calibration(tiny_images(8), preset))
        contents.add((tmp_path / preset / candidate.files[0]).read_bytes())
    assert len(contents) == 2


def test_only_bf16_needs_more_than_avx2(tmp_path):
    assert needs_of(tmp_path, Candidate("bf16", "openvino", (), 0)) == Needs(cpu_isa=("avx512_bf16",))
    assert needs_of(tmp_path, Candidate("int8", "openvino", (), 0)) == Needs(cpu_isa=("avx2",))
    assert needs_of(tmp_path, Candidate("fp32", "onnxruntime", (), 0)) == Needs()


@pytest.mark.parametrize("odd", [0, 1, 8])
def test_of_two_kinds_of_ranges_onnx_runtime_takes_the_nearer(odd, tmp_path, monkeypatch):
    """Images of extremes among many that are alike widen every range, unless ranges are means."""
    extremes = np.broadcast_to(np.indices(SHAPE).sum(0).astype(np.uint8) % 2 * 255, (odd, *SHAPE))
    images = np.concatenate([120 + tiny_images(40) // 16, extremes])
    onnx, real = tiny_onnx(tmp_path / "tiny.onnx"), quantization.quantize_static

    def built(name):
        (tmp_path / name).mkdir()
        return (
            tmp_path / name / backend("onnxruntime").build(onnx, tmp_path / name, "int8", Calibration(images)).files[0]
        )

    def quantize(*words, is_mean, extra_options, **options):
        real(*words, extra_options={**extra_options, "CalibMovingAverage": is_mean}, **options)

    def answers(file):
        return InferenceSession(file).run(None, {"image": images})[0]

    chosen, contents = built("chosen"), {}
    for is_mean in (True, False):
        monkeypatch.setattr(quantization, "quantize_static", partial(quantize, is_mean=is_mean))
        file = built(str(is_mean))
        contents[np.square(answers(file) - answers(onnx)).mean()] = file.read_bytes()
    assert len(contents) == 2
    assert chosen.read_bytes() == contents[min(contents)]
