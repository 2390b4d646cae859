"""ONNX -> ONNX, for any CPU that ONNX Runtime runs on; in fp32 also the reference of every parity check.

Knows nothing of recipes or bundles. ONNX Runtime's own quantizer makes int8 and int8d (Quantize ONNX models,
onnxruntime.ai): int8 with Q/DQ around each layer and ranges from calibration, int8d with ranges computed for each image
at run time (its convolutions are then ConvInteger). fp16 stores weights at 16 bits behind Casts, which the engine folds
when it loads.
"""

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import (
    FULL_RANGE,
    graph_specs,
    has_qdq,
    layer_names,
    name_nodes,
    refuse_other_precisions,
    wants_full_range,
)
from toolchain.backends.rounding import Rounding
from toolchain.backends.saturation.from_onnx import predict_from_onnx
from toolchain.backends.saturation.narrow import log_narrowed, narrow_weights
from toolchain.errors import BackendError
from toolchain.installation import explain_missing
from toolchain.progress import track
from toolchain.recipe import Option
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.saturation import Saturation
from toolchain.records.storage import write_atomically
from toolchain.records.tensors import Array

NAME = "onnxruntime"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8", "int8d")
NARROW = "ONNX Runtime has no convolution with such weights; --target=openvino stores them"
REASONS: dict[str, str] = {
    "bf16": "ONNX Runtime's CPU kernels have no bf16",
    **dict.fromkeys(("int8w", "int4w", "int2w", "int1w"), NARROW),
}
CONTROLS_ACCURACY = False
COMPUTES = True
OPTIONS: frozenset[str] = frozenset({FULL_RANGE})
DEFAULT_FLOATS: tuple[Precision, ...] = ("fp32", "bf16")
NEEDS_IMAGES: tuple[Precision, ...] = ()
FILES = {"fp32": "model.onnx"}  # other precisions: model-<precision>.onnx
QUANTIZED_KINDS = ["Conv", "Gemm", "MatMul"]
COMPARED = 128  # calibration images


def missing() -> str | None:
    return explain_missing("onnxruntime")


def stand_in(candidate: Candidate) -> Candidate | None:  # noqa: ARG001  # Backend's shape
    """None: it runs on any x86-64 CPU."""
    return None


def check(onnx: Path, options: Mapping[str, Option] = {}) -> None:  # Backend's shape; never changed
    """See Backend: any graph that ONNX Runtime ran in the dry run."""


def build(
    onnx: Path,
    folder: Path,
    precision: Precision,
    calibration: Calibration | None,
    rounding: Rounding | None = None,  # noqa: ARG001  # Backend's shape
    small: bool = False,  # noqa: ARG001
    options: Mapping[str, Option] = {},  # never changed
) -> Candidate:
    """Write model.onnx or model-<precision>.onnx; BackendError: not an ONNX file, or nothing to quantize."""
    refuse_other_precisions(NAME, PRECISIONS, precision, REASONS)
    graph_specs(onnx)
    content = _convert(onnx, precision, calibration, wants_full_range(NAME, options))
    name = FILES.get(precision, f"model-{precision}.onnx")
    write_atomically(folder / name, content)
    return Candidate(precision, NAME, (name,), len(content))


def predict_saturation(
    onnx: Path,  # noqa: ARG001  # Backend's shape
    folder: Path,
    candidate: Candidate,
    images: Callable[[], NDArray[np.uint8]],
) -> Saturation | None:
    """See Backend. int8d has unsigned weights, whose products ONNX Runtime widens before it adds them."""
    if candidate.precision != "int8":
        return None
    import onnx as library

    return predict_from_onnx(library.load(folder / candidate.files[0]), images)


def _convert(onnx: Path, precision: Precision, calibration: Calibration | None, full_range: bool) -> bytes:
    if precision == "fp16":
        return _halve_weights(onnx)
    if precision == "int8" and _has_qdq(onnx) and not full_range:
        return _narrowed(onnx)
    if precision == "fp32" or (precision == "int8" and _has_qdq(onnx)):
        return onnx.read_bytes()
    if calibration is None or (precision == "int8" and len(calibration.images) == 0):
        raise BackendError(
            f"{precision} needs calibration images and got none; add `quantize = {{}}` to the recipe's steps"
        )
    if calibration.max_drop is not None:
        raise BackendError("ONNX Runtime's quantizer does not measure accuracy; remove max_drop, or --target=openvino")
    if calibration.smooth or calibration.bias_correction == "exact":
        option = "smooth" if calibration.smooth else 'bias_correction = "exact"'
        raise BackendError(f"ONNX Runtime's quantizer does not support {option}; remove it, or --target=openvino")
    with tempfile.TemporaryDirectory() as folder:
        return _quantize(onnx, Path(folder) / "model.onnx", precision, calibration, full_range)


def _quantize(onnx: Path, path: Path, precision: Precision, calibration: Calibration, full_range: bool) -> bytes:
    import onnx as library
    from onnxruntime import quantization

    model = name_nodes(library.load(onnx))  # the quantizer excludes nodes by name
    onnx = path.with_name("named.onnx")
    library.save(model, onnx)
    common: dict[str, Any] = {
        "nodes_to_exclude": list(layer_names(model, calibration.ignore)),
        "per_channel": calibration.per_channel,
        "op_types_to_quantize": QUANTIZED_KINDS,
    }
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends its own preprocessing; the exporter has already folded constants
    try:
        if precision == "int8d":
            # ConvInteger accepts only unsigned weights with one scale per layer
            common |= {"weight_type": quantization.QuantType.QUInt8, "per_channel": False}
            quantization.quantize_dynamic(onnx, path, **common)
        else:
            common |= {"reduce_range": not full_range}  # weights within -64..64
            path = _quantize_static(onnx, path, calibration, common)
    finally:
        logging.disable(before)
    return _read_quantized(path, precision)


def _quantize_static(onnx: Path, path: Path, calibration: Calibration, options: Mapping[str, Any]) -> Path:
    """With each of two kinds of ranges, the extremes of all calibration images and the mean of each image's; the file
    whose answers on them are nearer to the model's. Neither suits every net: EfficientNet-Lite0 loses 5.5 points by
    the one and 1.5 by the other, ResNet-20 none and 0.2."""
    from onnxruntime import quantization

    made: list[Path] = []
    for is_mean in (False, True):
        extra = {"ActivationSymmetric": calibration.preset == "performance", "CalibMovingAverage": is_mean}
        reader = _CalibrationReader(onnx, calibration.images)
        made.append(path.with_stem(f"ranges-{len(made)}"))
        quantization.quantize_static(onnx, made[-1], reader, extra_options=extra, **options)
    images = calibration.images[:COMPARED]
    expected = _answers(onnx, images)
    return min(made, key=lambda file: float(np.square(_answers(file, images) - expected).mean()))


def _answers(onnx: Path, images: Array) -> NDArray[np.float32]:
    """[N, outputs]: of each image by ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: images[row : row + 1]})[0] for row in range(len(images))])


def _read_quantized(path: Path, precision: str) -> bytes:
    import onnx

    model = onnx.load(path)
    if not any(node.op_type in ("QuantizeLinear", "DynamicQuantizeLinear") for node in model.graph.node):
        raise BackendError(f"{precision} was requested, but ONNX Runtime found nothing to quantize; remove {precision}")
    return bytes(model.SerializeToString(deterministic=True))


class _CalibrationReader:
    """Calibration images one at a time, in the interface that ONNX Runtime expects, with progress shown."""

    def __init__(self, onnx: Path, images: Array) -> None:
        self._name = graph_specs(onnx)[0][0].name
        self._rows: Iterator[int] = iter(track(range(len(images)), "quantize: calibration images", len(images)))
        self._images = images

    def get_next(self) -> dict[str, Array] | None:
        row = next(self._rows, None)
        return None if row is None else {self._name: self._images[row : row + 1]}

    def __iter__(self) -> Iterator[dict[str, Array]]:
        while (feeds := self.get_next()) is not None:
            yield feeds

    def __next__(self) -> dict[str, Array]:
        if (feeds := self.get_next()) is None:
            raise StopIteration
        return feeds


def _narrowed(path: Path) -> bytes:
    """The file with weights that no CPU saturates on; its own bytes where they are so already."""
    import onnx

    model = onnx.load(path)
    names = narrow_weights(model)
    if not names:
        return path.read_bytes()
    log_narrowed(names)
    return bytes(model.SerializeToString(deterministic=True))


def _has_qdq(onnx: Path) -> bool:
    import onnx as library

    return has_qdq(library.load(onnx, load_external_data=False))


def _halve_weights(path: Path) -> bytes:
    """Store float weights of more than one element at 16 bits, each behind a Cast to the 32 bits used to compute."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(path)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and np.prod(tensor.dims) > 1:
            half = numpy_helper.to_array(tensor).astype(np.float16)
            casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=TensorProto.FLOAT))
            tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString(deterministic=True))
