"""ONNX -> OpenVINO IR, for Intel and other x86-64 CPUs.

Knows nothing of recipes, bundles or servers: an ONNX file goes in, a Candidate comes out. fp32 and bf16 are one file
(bf16 is a hint to the engine), int8 is quantized after training by NNCF on that same graph. The same inputs, options
and versions give the same bytes on one machine: names that OpenVINO takes from a counter are replaced by the node's
place in the graph, and no path is in the file. Reference: OpenVINO, Basic quantization flow (docs.openvino.ai).
"""

import io
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from toolchain.backends.calibration import Calibration
from toolchain.backends.graph import refuse_other_precisions
from toolchain.errors import BackendError
from toolchain.progress import counted
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.tensors import Array

NAME = "openvino"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
COMPUTES = True
COUNTED = re.compile(r"[A-Z]\w*_\d+")  # `Concat_374`: a type and a counter; folding hands such names on
PRESETS = ("mixed", "performance")


@dataclass(frozen=True)
class Pictures:
    """Calibration pictures one at a time, as NNCF reads them (perhaps several times), with our progress shown."""

    images: Array

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Array]:
        rows = counted(range(len(self)), "quantize: calibration pictures", len(self))
        for row in rows:
            if row == len(self) - 1:
                next(rows, None)  # NNCF takes exactly len() and asks for no end: end the progress line here
            yield self.images[row : row + 1]


def missing() -> str | None:
    """Why this back end cannot run here; None when it can."""
    absent = [name for name in ("openvino", "nncf") if find_spec(name) is None]
    return f"not installed: {', '.join(absent)}; run make setup" if absent else None


def build(onnx: Path, folder: Path, precision: Precision, calibration: Calibration | None) -> Candidate:
    """Write model.xml and model.bin (fp32, bf16) or model-int8.xml and model-int8.bin.

    BackendError: an ONNX that OpenVINO cannot read, int8 without calibration pictures, nothing that can be quantized.
    """
    refuse_other_precisions(NAME, PRECISIONS, precision)
    if precision == "int8" and (calibration is None or len(calibration.images) == 0):
        raise BackendError("int8 needs calibration pictures and got none; add `quantize = {}` to the recipe's steps")
    graph = graph_from_onnx(onnx)
    if precision == "int8" and calibration is not None:
        graph = quantized(graph, calibration)
    return _saved(graph, folder, "model-int8" if precision == "int8" else "model", precision)


def graph_from_onnx(onnx: Path) -> Any:
    """An openvino.Model of `onnx`, its constants folded; BackendError in one line.

    Reading alone leaves each bias behind a chain of shape operations, where NNCF finds none to correct and where int8
    with a free batch answered wrongly (docs/decisions/0006).
    """
    try:
        graph = _openvino().Core().read_model(onnx)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise BackendError(f"{onnx}: OpenVINO cannot read it: {reason}") from error
    # what openvino.convert_model does to a graph, without its guessing of formats; NNCF calls it by this name too
    from openvino._offline_transformations import apply_moc_transformations

    apply_moc_transformations(graph, cf=True)
    _name_by_place(graph)
    return graph


def quantized(graph: Any, calibration: Calibration) -> Any:
    """A new graph in int8, by NNCF's post-training quantization (min-max ranges, then bias correction)."""
    if calibration.preset not in PRESETS:
        raise BackendError(f"no quantization preset '{calibration.preset}'; there are: {', '.join(PRESETS)}")
    nncf = _nncf()
    pictures = Pictures(calibration.images)
    with redirect_stdout(io.StringIO()):  # NNCF draws its progress bars on stdout, which is ours for results
        result = nncf.quantize(
            graph,
            nncf.Dataset(pictures),
            preset=nncf.QuantizationPreset(calibration.preset),
            subset_size=len(pictures),
            fast_bias_correction=calibration.bias_correction == "fast",
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=calibration.bias_correction == "off"
            ),
            # NNCF smooths activations (Xiao et al. 2022) only in what it is told is a transformer
            model_type=nncf.ModelType.TRANSFORMER if calibration.smooth else None,
        )
    if not any(node.get_type_name() == "FakeQuantize" for node in result.get_ops()):
        raise BackendError("int8 was asked for and NNCF found nothing to quantize; remove int8 from `precisions`")
    _name_by_place(result)
    return result


def _name_by_place(graph: Any) -> None:
    """OpenVINO names nameless nodes after a counter of the process; their place in the graph is the same each time."""
    for place, node in enumerate(graph.get_ordered_ops()):
        if COUNTED.fullmatch(node.get_friendly_name()):
            node.set_friendly_name(f"{node.get_type_name()}.{place}")


def _saved(graph: Any, folder: Path, stem: str, precision: Precision) -> Candidate:
    """Both files appear under their names when both are whole."""
    names = (f"{stem}.xml", f"{stem}.bin")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{stem}.") as making:
        try:
            _openvino().save_model(graph, Path(making) / names[0], compress_to_fp16=False)
            # a C++ stream that loses its last buffer on a full disk says nothing: only reading tells
            _openvino().Core().read_model(Path(making) / names[0])
        except RuntimeError as error:
            first = str(error).strip().splitlines()[-1]
            raise BackendError(
                f"{folder}: OpenVINO could not write {' and '.join(names)} whole ({first}); no space left on device? "
                "free some space and run the same command again to go on"
            ) from error
        for name in reversed(names):
            (Path(making) / name).replace(folder / name)
    return Candidate(precision, NAME, names, sum((folder / name).stat().st_size for name in names))


def _openvino() -> Any:
    """The package, its telemetry kept from loading (importing it reports the import)."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: Python's way to bar an import
    import openvino

    return openvino


def _nncf() -> Any:
    """NNCF without its telemetry and its chatter (and torch's, which it imports) below errors."""
    _openvino()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf
