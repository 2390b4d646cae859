"""ONNX -> OpenVINO IR, for Intel and other x86-64 CPUs.

Knows nothing of recipes, bundles or servers: an ONNX file goes in, a Candidate comes out. fp32 and bf16 share a file
(bf16 is a hint to the engine). fp16 stores weights at 16 bits and computes in fp32. int8 comes from NNCF's
post-training quantization (openvino_int8.py) or from the ONNX file, if training learned it. intNw rounds only the
weights. A graph whose integer weights fit fewer than 8 bits is stored as one packed file (records/packed_weights.py),
which the engine unpacks. The same inputs, options and versions give the same bytes on one machine: names that OpenVINO
takes from a counter are replaced by the node's position in the graph, and the file contains no path.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import FULL_RANGE, refuse_other_precisions, wants_full_range
from toolchain.backends.openvino_graph import (
    graph_from_onnx,
    holds_integers,
    import_openvino,
    layers,
    round_weights,
)
from toolchain.backends.openvino_int8 import float_layers, quantize
from toolchain.backends.rounding import Rounding
from toolchain.backends.saturation.from_openvino import predict_from_openvino
from toolchain.backends.saturation.narrow import log_narrowed, narrow_weights
from toolchain.errors import BackendError
from toolchain.failures import describe_error
from toolchain.installation import explain_missing
from toolchain.recipe import Option
from toolchain.records.manifest import FLOAT_LAYERS, STORED_BITS, WEIGHT_BITS, Candidate, Precision
from toolchain.records.packed_weights import pack, stored_bits, unpack
from toolchain.records.saturation import Saturation
from toolchain.records.storage import write_atomically

NAME = "openvino"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8", "int8w", "int4w", "int2w", "int1w")
REASONS: dict[str, str] = {"int8d": "OpenVINO's CPU plugin has no convolution with ranges computed per image"}
CONTROLS_ACCURACY = True
COMPUTES = True
OPTIONS: frozenset[str] = frozenset({FULL_RANGE})
DEFAULT_FLOATS: tuple[Precision, ...] = ("fp32", "bf16")
NEEDS_IMAGES: tuple[Precision, ...] = ()
STEMS = {"fp32": "model", "bf16": "model"}  # one file for both; other precisions: model-<precision>


def missing() -> str | None:
    """Why this back end cannot run on this machine; None when it can."""
    return explain_missing("openvino", "nncf")


def stand_in(candidate: Candidate) -> Candidate | None:  # noqa: ARG001  # Backend's shape
    """None: it runs on any x86-64 CPU."""
    return None


def check(onnx: Path, options: Mapping[str, Option] = {}) -> None:  # noqa: ARG001  # Backend's shape; never changed
    """See Backend: OpenVINO reads and compiles it."""
    graph = graph_from_onnx(onnx)
    try:
        import_openvino().Core().compile_model(graph, "CPU")
    except RuntimeError as error:
        raise BackendError(f"{onnx.name}: OpenVINO cannot compile it: {describe_error(error)}") from error


def build(
    onnx: Path,
    folder: Path,
    precision: Precision,
    calibration: Calibration | None,
    rounding: Rounding | None = None,
    small: bool = False,
    options: Mapping[str, Option] = {},  # never changed
) -> Candidate:
    """Write model.xml and model.bin (fp32, bf16), or model-<precision>.xml and .bin, or model-<precision>.packed.

    BackendError: an ONNX file that OpenVINO cannot read, int8 without calibration images, nothing to quantize.
    """
    refuse_other_precisions(NAME, PRECISIONS, precision, REASONS)
    graph, full_range = graph_from_onnx(onnx), wants_full_range(NAME, options)
    recorded: dict[str, float] = {}
    if precision == "int8" and not holds_integers(graph):
        graph, recorded = _quantize(graph, calibration, full_range)
    elif precision == "int8" and not full_range:
        graph = _narrowed(onnx, graph)
    elif precision in WEIGHT_BITS and not holds_integers(graph):
        round_weights(graph, rounding or Rounding(WEIGHT_BITS[precision]))
    return _save(graph, folder, precision, small, recorded)


def predict_saturation(
    onnx: Path, folder: Path, candidate: Candidate, images: Callable[[], NDArray[np.uint8]]
) -> Saturation | None:
    """See Backend."""
    if candidate.precision != "int8":
        return None
    names = {layer.node.get_friendly_name(): layer.name for layer in layers(graph_from_onnx(onnx))}
    return predict_from_openvino(read_artifact(folder / candidate.files[0]), images, names)


def read_artifact(path: Path) -> Any:
    """The openvino.Model in a file that build() wrote."""
    core = import_openvino().Core()
    if path.suffix != ".packed":
        return core.read_model(path)
    text, constants = unpack(path.read_bytes(), path.name)
    return core.read_model(text, import_openvino().Tensor(constants))


def _narrowed(onnx: Path, graph: Any) -> Any:
    """The graph with weights that no CPU saturates on; `graph` itself where they are so already."""
    import onnx as library

    model = library.load(onnx)
    names = narrow_weights(model)
    if not names:
        return graph
    log_narrowed(names)
    with tempfile.TemporaryDirectory() as folder:
        library.save(model, Path(folder) / onnx.name)
        return graph_from_onnx(Path(folder) / onnx.name)


def _quantize(graph: Any, calibration: Calibration | None, full_range: bool) -> tuple[Any, dict[str, float]]:
    if calibration is None or len(calibration.images) == 0:
        raise BackendError("int8 needs calibration images and got none; add `quantize = {}` to the recipe's steps")
    result = quantize(graph, calibration, full_range)
    return result, {} if calibration.max_drop is None else {FLOAT_LAYERS: float(len(float_layers(result)))}


def _save(graph: Any, folder: Path, precision: Precision, small: bool, options: dict[str, float]) -> Candidate:
    """Write the files under temporary names and rename them when both are complete."""
    stem = STEMS.get(precision, f"model-{precision}")
    names: tuple[str, ...] = (f"{stem}.xml", f"{stem}.bin")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{stem}.") as temporary:
        text, constants = (Path(temporary) / name for name in names)
        _write(graph, text, precision == "fp16")
        content = _pack(text, constants, small)
        bits = stored_bits(content)
        if small or bits < 8:
            names = (f"{stem}.packed",)
            write_atomically(folder / names[0], content)
        else:
            for path in (constants, text):
                path.replace(folder / path.name)
    if bits < 8 or precision in WEIGHT_BITS:
        options = {**options, STORED_BITS: float(bits)}
    size = sum((folder / name).stat().st_size for name in names)
    return Candidate(precision, NAME, names, size, options=options)


def _write(graph: Any, text: Path, half: bool) -> None:
    """half: store float weights at 16 bits; the engine widens them when it compiles the file."""
    try:
        import_openvino().save_model(graph, text, compress_to_fp16=half)
        # a C++ stream that loses its last buffer on a full disk reports no error; only reading the file shows it
        import_openvino().Core().read_model(text)
    except RuntimeError as error:
        first = str(error).strip().splitlines()[-1]
        raise BackendError(
            f"{text.parent.parent}: OpenVINO could not write {text.name} and its .bin completely ({first}); no space "
            "left on device? free some space and run the same command again to resume"
        ) from error


def _pack(text: Path, constants: Path, small: bool) -> bytes:
    """Both files as one. The text lists each constant's type and its place in the other file."""
    graph = text.read_bytes()
    integers = [
        (int(data.get("offset", 0)), int(data.get("size", 0)))
        for data in ElementTree.fromstring(graph).iterfind("./layers/layer[@type='Const']/data")
        if data.get("element_type") in ("i8", "u8")
    ]
    return pack(graph, np.fromfile(constants, np.uint8), integers, entropy=small)
