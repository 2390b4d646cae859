"""TensorRT for RTX builds for real, for an A6000 that is not here; ONNX Runtime answers for the very graph."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deploy.runtime.engines import Settings, open_engine
from tests.backends.contract import check_refusals
from tests.backends.tiny import SHAPE, pictures, tiny_onnx
from toolchain.backends import onnxruntime as onnxruntime_backend
from toolchain.backends import tensorrt
from toolchain.backends.calibration import Calibration
from toolchain.backends.tensorrt_layers import count_types, inspect_layers
from toolchain.compress.quantization.fake_quantize import observe_ranges
from toolchain.compress.quantization.prepare import prepare_qat
from toolchain.compress.step import LearnedQuantization
from toolchain.errors import BackendError
from toolchain.export import onnx_from_torch
from toolchain.models.preprocessing import normalize_images
from toolchain.parity import compare
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.storage import decode_record
from toolchain.records.tensorrt_layers import LayerInspection, PlanSpec, require_int8_convolutions
from toolchain.records.tensors import Preprocessing

LINE = (
    "Name: {name}, LayerType: {kind}, Inputs: [ {{ Name: a, Dimensions: [-1,8,4,4], Strides: [1], StrideOrder: [0], "
    "Datatype: {type}, Format: (NHWC) Channel major format }}], Constants: [ {{ Name: w, Dimensions: [8,8,3,3], "
    "Strides: [1], StrideOrder: [0], Datatype: {type}, Format: x }}], Outputs: [ {{ Name: b, Dimensions: [-1,8,4,4], "
    "Strides: [1], StrideOrder: [0], Datatype: Float, Format: x }}], TacticName: t, StreamId: 0, "
    "Metadata: [ONNX Layer: {node}][ONNX Layer: relu]"
)


def made(folder: Path, precision: Precision, **options: object) -> Candidate:
    onnx_file = tiny_onnx(folder / "in.onnx", width=16)
    return tensorrt.build(onnx_file, folder / "made", precision, Calibration(pictures(40, seed=2)), options=options)


def audit_in(folder: Path, precision: str) -> LayerInspection:
    place = folder / "made" / f"audit-{precision}.json"
    return decode_record(place.read_bytes(), LayerInspection, str(place), 1)


@pytest.mark.parametrize(
    ("precision", "computed"), [("fp32", "Float"), ("fp16", "Half"), ("bf16", "BFloat16"), ("int8", "Int8")]
)
def test_a_plan_is_built_audited_and_answered_for(precision: Precision, computed: str, tmp_path: Path) -> None:
    candidate = made(tmp_path, precision)
    assert candidate.files == (f"model-{precision}.sm86.plan", f"audit-{precision}.json")
    assert candidate.size_bytes == sum((tmp_path / "made" / name).stat().st_size for name in candidate.files)
    audit = audit_in(tmp_path, precision)
    assert count_types(audit) == {computed: 2}
    assert (audit.capabilities, audit.batches, audit.source) == ((86,), (1, 8, 32), "builder")
    assert audit.kernels > 2
    assert sum(layer.weight_bytes for layer in audit.layers) > 8 * 8 * 9
    reference = onnxruntime.InferenceSession(str(tmp_path / "in.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = reference.run(None, {"image": pictures(40)})
    with open_engine(tmp_path / "made", tensorrt.stand_in(candidate), Settings(threads=1)) as engine:
        assert (engine.inputs[0].dtype, engine.outputs[0].dtype) == ("uint8", "float32")
        found = engine.infer({"image": pictures(40)})["logits"]
    record = compare(expected, found, ("onnxruntime", "tensorrt"), precision)
    assert record.passed, record
    if precision != "fp32":
        assert record.max_abs > 0  # it is no copy of the float graph


def test_the_graph_is_the_same_bytes_twice(tmp_path: Path) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        made(folder, "int8")
    graphs = [(folder / "made" / "standin-int8.onnx").read_bytes() for folder in (tmp_path / "a", tmp_path / "b")]
    assert graphs[0] == graphs[1]
    assert str(tmp_path).encode() not in graphs[0]


def test_a_recipe_may_name_gpus_and_batches(tmp_path: Path) -> None:
    made(tmp_path, "fp16", compute_capabilities=[89, 86], batches=[4])
    audit = audit_in(tmp_path, "fp16")
    assert (audit.capabilities, audit.batches) == ((86, 89), (4,))


def test_the_classic_flavour_ships_the_typed_graph(tmp_path: Path) -> None:
    candidate = made(tmp_path, "int8", flavour="classic")
    assert candidate.files == ("model-int8.onnx", "order-int8.json")
    order = decode_record((tmp_path / "made" / "order-int8.json").read_bytes(), PlanSpec, "order", 1)
    assert order == PlanSpec("int8", (1, 8, 32), {"Conv.4": 432, "Conv.6": 2304})
    kinds = {node.op_type for node in onnx.load(tmp_path / "made" / "model-int8.onnx").graph.node}
    assert "QuantizeLinear" in kinds
    assert candidate.size_bytes == sum((tmp_path / "made" / name).stat().st_size for name in candidate.files)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"flavour": "quick"}, "flavour = 'quick': expected rtx or classic"),
        ({"batches": [0]}, r"batches = \[0\]: expected different whole numbers from 1"),
        ({"batches": []}, r"batches = \[\]: expected"),
        ({"compute_capabilities": [86.5]}, r"compute_capabilities = \[86.5\]: expected"),
        ({"compute_capabilities": [90]}, "builds for compute capabilities 75, 80, 86, 89, 120, 121; not 90"),
    ],
)
def test_options_that_cannot_be_are_told_in_a_line(options: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=told) as caught:
        made(tmp_path, "fp32", **options)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "made").glob("*"))


def test_what_quantize_asks_and_tensorrt_has_not_is_refused(tmp_path: Path) -> None:
    onnx_file = tiny_onnx(tmp_path / "in.onnx")
    for change in ({"smooth": True}, {"bias_correction": "exact"}, {"per_channel": False}, {"max_drop": 1.0}):
        with pytest.raises(BackendError, match="target tensorrt has no such thing: remove"):
            tensorrt.build(onnx_file, tmp_path / "made", "int8", Calibration(pictures(8), **change))
    with pytest.raises(BackendError, match=r"int8 needs pictures and got none; add `quantize = \{\}`"):
        tensorrt.build(onnx_file, tmp_path / "made", "int8", None)


def test_a_precision_or_file_that_cannot_be_is_refused(tmp_path: Path) -> None:
    check_refusals("tensorrt", tmp_path, tensorrt)


def test_int8_that_is_computed_in_float_is_refused_by_name() -> None:
    lines = [
        LINE.format(name="a", kind="correlation", type="Int8", node="conv1"),
        LINE.format(name="b", kind="correlation", type="Half", node="conv2"),
        LINE.format(name="c", kind="kgen", type="Float", node="conv1").replace("[8,8,3,3]", "[8]"),
    ]
    audit = inspect_layers(lines, {"conv1": 576, "conv2": 576, "conv3": 9}, "rtx", "int8", (86,), (1,), 10)
    assert audit.convolutions == {"conv1": "Int8", "conv2": "Half", "conv3": "not found"}
    assert audit.layers[0].activation_bytes == 8 * 4 * 4 * 4
    assert audit.layers[0].onnx == ("conv1", "relu")
    with pytest.raises(BackendError, match=r"2 of 3 convolutions in float: conv2 \(Half\), conv3 \(not found\); its"):
        require_int8_convolutions(audit)
    require_int8_convolutions(audit, meant=("conv2", "conv3"))
    require_int8_convolutions(msgspec.structs.replace(audit, precision="fp16"))


def test_convolutions_too_narrow_for_int8_are_refused_unless_the_recipe_names_them(tmp_path: Path) -> None:
    narrow = tiny_onnx(tmp_path / "in.onnx", width=8)
    with pytest.raises(BackendError, match=r"2 of 2 convolutions in float: Conv\.4 \(Half\), Conv\.6 \(Half\); "):
        tensorrt.build(narrow, tmp_path / "made", "int8", Calibration(pictures(8)))
    assert not list((tmp_path / "made").glob("*"))
    wide = tiny_onnx(tmp_path / "wide.onnx", width=16)
    tensorrt.build(wide, tmp_path / "made", "int8", Calibration(pictures(8), ignore=("w1",)))
    assert audit_in(tmp_path, "int8").convolutions == {"Conv.4": "Half", "Conv.6": "Int8"}


def test_a_layer_in_an_unknown_form_is_no_int8_layer() -> None:
    with pytest.raises(BackendError, match="told no layers"):
        inspect_layers([], {}, "rtx", "int8", (86,), (1,), 10)
    with pytest.raises(BackendError, match="a form that is not known here: 'Name: x, Kind: y'"):
        inspect_layers(["Name: x, Kind: y"], {}, "rtx", "int8", (86,), (1,), 10)


def test_bytes_are_cast_before_they_are_turned(tmp_path: Path) -> None:
    from toolchain.backends.tensorrt_onnx import cast_before_transpose

    model = cast_before_transpose(onnx.load(tiny_onnx(tmp_path / "in.onnx")))
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node[:2]] == ["Cast", "Transpose"]
    before, after = (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"image": pictures(3)})[0]
        for content in ((tmp_path / "in.onnx").read_bytes(), model.SerializeToString())
    )
    np.testing.assert_array_equal(before, after)


def test_onnx_runtimes_quantizer_is_as_it_was_after_modelopt_rewrote_it_elsewhere(tmp_path: Path) -> None:
    made(tmp_path, "int8")
    found = onnxruntime_backend.build(tmp_path / "in.onnx", tmp_path / "ort", "int8", Calibration(pictures(40, seed=2)))
    assert found.size_bytes


def test_what_modelopt_cannot_do_is_told_in_a_line(tmp_path: Path) -> None:
    from toolchain.backends.modelopt import ModelOptRequest, run_modelopt

    (tmp_path / "in.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match="int8: ModelOpt cannot make it of this graph: ") as caught:
        run_modelopt(tmp_path, ModelOptRequest("int8"), pictures(2))
    assert "\n" not in str(caught.value)


def learned_onnx(folder: Path, symmetric: bool) -> Path:
    """A net of 16 channels with ranges as quantization-aware training starts them, exported."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 16, 3, padding=1),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 3, padding=1),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 4),
    ).eval()
    shape = Preprocessing(*SHAPE)
    seen = normalize_images(torch.from_numpy(pictures(40)), shape)
    made = prepare_qat(net, LearnedQuantization(8, 8, symmetric), True, True, seen[:1], lambda _: None)
    with torch.no_grad(), observe_ranges(made):
        made(seen)
    return onnx_from_torch(made.eval(), shape, folder / "learned.onnx")


def test_quantization_learned_symmetric_is_built_as_it_was_learned(tmp_path: Path) -> None:
    graph = learned_onnx(tmp_path, symmetric=True)
    candidate = tensorrt.build(graph, tmp_path / "made", "int8", None)
    assert count_types(audit_in(tmp_path, "int8")) == {"Int8": 2}
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": pictures(40)})
    with open_engine(tmp_path / "made", tensorrt.stand_in(candidate), Settings(threads=1)) as engine:
        found = engine.infer({"image": pictures(40)})["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_quantization_learned_around_another_zero_is_refused_with_the_option_that_cures_it(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"TensorRT would not take this graph: .*qat = \{ symmetric = true \}"):
        tensorrt.build(learned_onnx(tmp_path, symmetric=False), tmp_path / "made", "int8", None)
