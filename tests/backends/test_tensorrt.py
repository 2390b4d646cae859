"""TensorRT for RTX builds real plans for an A6000 that this machine lacks; ONNX Runtime runs the same graph."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from deploy.runtime.engines import Settings, open_engine
from tests.backends.built import tensorrt_build
from tests.backends.contract import check_refusals
from tests.backends.tiny import SHAPE, tiny_images, tiny_onnx
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


def build(folder: Path, precision: Precision, **options: object) -> Candidate:
    onnx_file = tiny_onnx(folder / "in.onnx", width=16)
    return tensorrt.build(onnx_file, folder / "built", precision, Calibration(tiny_images(40, seed=2)), options=options)


def inspection_in(folder: Path, precision: str) -> LayerInspection:
    path = folder / "built" / f"audit-{precision}.json"
    return decode_record(path.read_bytes(), LayerInspection, str(path), 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "computed"), [("fp32", "Float"), ("fp16", "Half"), ("bf16", "BFloat16"), ("int8", "Int8")]
)
def test_a_plan_is_built_and_inspected_and_its_stand_in_agrees(
    precision: Precision, computed: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    candidate, folder = tensorrt_build(tmp_path_factory, precision)
    assert candidate.files == (f"model-{precision}.sm86.plan", f"audit-{precision}.json")
    assert candidate.size_bytes == sum((folder / "built" / name).stat().st_size for name in candidate.files)
    inspection = inspection_in(folder, precision)
    assert count_types(inspection) == {computed: 2}
    assert (inspection.capabilities, inspection.batches, inspection.source) == ((86,), (1, 8, 32), "builder")
    assert inspection.kernels > 2
    assert sum(layer.weight_bytes for layer in inspection.layers) > 8 * 8 * 9
    reference = onnxruntime.InferenceSession(str(folder / "in.onnx"), providers=["CPUExecutionProvider"])
    (expected,) = reference.run(None, {"image": tiny_images(40)})
    with open_engine(folder / "built", tensorrt.stand_in(candidate), Settings(threads=1)) as engine:
        assert (engine.inputs[0].dtype, engine.outputs[0].dtype) == ("uint8", "float32")
        found = engine.infer({"image": tiny_images(40)})["logits"]
    record = compare(expected, found, ("onnxruntime", "tensorrt"), precision)
    assert record.passed, record
    if precision != "fp32":
        assert record.max_abs > 0  # not a copy of the float graph


@pytest.mark.slow
def test_a_recipe_may_set_gpus_and_batches(tmp_path: Path) -> None:
    build(tmp_path, "fp16", compute_capabilities=[89, 86], batches=[4])
    inspection = inspection_in(tmp_path, "fp16")
    assert (inspection.capabilities, inspection.batches) == ((86, 89), (4,))


@pytest.mark.slow
def test_the_classic_flavour_ships_the_typed_graph(tmp_path: Path) -> None:
    candidate = build(tmp_path, "int8", flavour="classic")
    assert candidate.files == ("model-int8.onnx", "order-int8.json")
    order = decode_record((tmp_path / "built" / "order-int8.json").read_bytes(), PlanSpec, "order", 1)
    assert order == PlanSpec("int8", (1, 8, 32), {"Conv.4": 432, "Conv.6": 2304})
    kinds = {node.op_type for node in onnx.load(tmp_path / "built" / "model-int8.onnx").graph.node}
    assert "QuantizeLinear" in kinds
    assert candidate.size_bytes == sum((tmp_path / "built" / name).stat().st_size for name in candidate.files)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"flavour": "quick"}, "flavour = 'quick': expected rtx or classic"),
        ({"batches": [0]}, r"batches = \[0\]: expected different whole numbers of at least 1"),
        ({"batches": []}, r"batches = \[\]: expected"),
        ({"compute_capabilities": [86.5]}, r"compute_capabilities = \[86.5\]: expected"),
        ({"compute_capabilities": [90]}, "builds for compute capabilities 75, 80, 86, 89, 120, 121; not 90"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=message) as caught:
        build(tmp_path, "fp32", **options)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "built").glob("*"))


def test_options_of_quantize_that_tensorrt_lacks_are_refused(tmp_path: Path) -> None:
    onnx_file = tiny_onnx(tmp_path / "in.onnx")
    for change in ({"smooth": True}, {"bias_correction": "exact"}, {"per_channel": False}, {"max_drop": 1.0}):
        with pytest.raises(BackendError, match=r"target tensorrt does not support .*; remove it from quantize"):
            tensorrt.build(onnx_file, tmp_path / "built", "int8", Calibration(tiny_images(8), **change))
    with pytest.raises(BackendError, match=r"int8 needs calibration images and got none; add `quantize = \{\}`"):
        tensorrt.build(onnx_file, tmp_path / "built", "int8", None)


def test_a_wrong_precision_or_file_is_refused(tmp_path: Path) -> None:
    check_refusals("tensorrt", tmp_path, tensorrt)


def test_int8_that_is_computed_in_float_is_refused_by_name() -> None:
    lines = [
        LINE.format(name="a", kind="correlation", type="Int8", node="conv1"),
        LINE.format(name="b", kind="correlation", type="Half", node="conv2"),
        LINE.format(name="c", kind="kgen", type="Float", node="conv1").replace("[8,8,3,3]", "[8]"),
    ]
    inspection = inspect_layers(lines, {"conv1": 576, "conv2": 576, "conv3": 9}, "rtx", "int8", (86,), (1,), 10)
    assert inspection.convolutions == {"conv1": "Int8", "conv2": "Half", "conv3": "not found"}
    assert inspection.layers[0].activation_bytes == 8 * 4 * 4 * 4
    assert inspection.layers[0].onnx == ("conv1", "relu")
    with pytest.raises(BackendError, match=r"2 of 3 convolutions in float: conv2 \(Half\), conv3 \(not found\); its"):
        require_int8_convolutions(inspection)
    require_int8_convolutions(inspection, intended=("conv2", "conv3"))
    require_int8_convolutions(msgspec.structs.replace(inspection, precision="fp16"))


@pytest.mark.slow
def test_convolutions_too_narrow_for_int8_are_refused_unless_the_recipe_names_them(tmp_path: Path) -> None:
    narrow = tiny_onnx(tmp_path / "in.onnx", width=8)
    with pytest.raises(BackendError, match=r"2 of 2 convolutions in float: Conv\.4 \(Half\), Conv\.6 \(Half\); "):
        tensorrt.build(narrow, tmp_path / "built", "int8", Calibration(tiny_images(8)))
    assert not list((tmp_path / "built").glob("*"))
    wide = tiny_onnx(tmp_path / "wide.onnx", width=16)
    tensorrt.build(wide, tmp_path / "built", "int8", Calibration(tiny_images(8), ignore=("w1",)))
    assert inspection_in(tmp_path, "int8").convolutions == {"Conv.4": "Half", "Conv.6": "Int8"}


def test_a_layer_in_an_unknown_format_is_refused() -> None:
    with pytest.raises(BackendError, match="logged no layers"):
        inspect_layers([], {}, "rtx", "int8", (86,), (1,), 10)
    with pytest.raises(BackendError, match="a format that is not known here: 'Name: x, Kind: y'"):
        inspect_layers(["Name: x, Kind: y"], {}, "rtx", "int8", (86,), (1,), 10)


def test_bytes_are_cast_before_they_are_transposed(tmp_path: Path) -> None:
    from toolchain.backends.tensorrt_onnx import cast_before_transpose

    model = cast_before_transpose(onnx.load(tiny_onnx(tmp_path / "in.onnx")))
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node[:2]] == ["Cast", "Transpose"]
    before, after = (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"image": tiny_images(3)})[
            0
        ]
        for content in ((tmp_path / "in.onnx").read_bytes(), model.SerializeToString())
    )
    np.testing.assert_array_equal(before, after)


@pytest.mark.slow
def test_modelopt_leaves_onnx_runtimes_quantizer_in_this_process_unchanged(tmp_path: Path) -> None:
    build(tmp_path, "int8")
    found = onnxruntime_backend.build(
        tmp_path / "in.onnx", tmp_path / "ort", "int8", Calibration(tiny_images(40, seed=2))
    )
    assert found.size_bytes


@pytest.mark.slow
def test_a_failure_of_modelopt_is_reported_in_one_line(tmp_path: Path) -> None:
    from toolchain.backends.modelopt import ModelOptRequest, run_modelopt

    (tmp_path / "in.onnx").write_bytes(b"no graph")
    with pytest.raises(BackendError, match="int8: ModelOpt cannot convert this graph: ") as caught:
        run_modelopt(tmp_path, ModelOptRequest("int8"), tiny_images(2))
    assert "\n" not in str(caught.value)


def learned_onnx(folder: Path, symmetric: bool) -> Path:
    """An exported model of 16 channels with the initial ranges of quantization-aware training."""
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
    seen = normalize_images(torch.from_numpy(tiny_images(40)), shape)
    prepared = prepare_qat(net, LearnedQuantization(8, 8, symmetric), True, True, seen[:1])
    with torch.no_grad(), observe_ranges(prepared):
        prepared(seen)
    return onnx_from_torch(prepared.eval(), shape, folder / "learned.onnx")


@pytest.mark.slow
def test_symmetric_learned_quantization_is_built_unchanged(tmp_path: Path) -> None:
    graph = learned_onnx(tmp_path, symmetric=True)
    candidate = tensorrt.build(graph, tmp_path / "built", "int8", None)
    assert count_types(inspection_in(tmp_path, "int8")) == {"Int8": 2}
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"image": tiny_images(40)})
    with open_engine(tmp_path / "built", tensorrt.stand_in(candidate), Settings(threads=1)) as engine:
        found = engine.infer({"image": tiny_images(40)})["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_asymmetric_learned_quantization_is_refused_with_the_option_that_fixes_it(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"TensorRT would not accept this graph: .*qat = \{ symmetric = true \}"):
        tensorrt.build(learned_onnx(tmp_path, symmetric=False), tmp_path / "built", "int8", None)
