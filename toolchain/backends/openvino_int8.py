"""An OpenVINO graph -> the same graph in int8, by NNCF's post-training quantization.

Knows nothing of recipes or files. Ranges are chosen by what the graph answers, and biases corrected in openvino_bias.py
(docs/decisions/0024). With `max_drop`, the layers that cost most accuracy return to float one by one until the loss on
labelled images is within the limit (NNCF, Quantizing with accuracy control, docs.openvino.ai).
"""

import io
import logging
from collections.abc import Iterable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from toolchain.backends.calibration import Calibration
from toolchain.backends.openvino_bias import correct_biases
from toolchain.backends.openvino_graph import compile_in_fp32, import_openvino, layers, match_layers, name_by_position
from toolchain.errors import BackendError
from toolchain.progress import track
from toolchain.records.output import OutputKind
from toolchain.records.tensors import Array

PRESETS = ("mixed", "performance")
# Of a layer's activations: the mean of the images' smallest and largest (NNCF's default, which takes the extremes where
# each channel has a range of its own), or the extremes of all images
RANGES = ("means", "extremes")
COMPARED = 128  # calibration images


@dataclass(frozen=True)
class CalibrationImages:
    """Calibration images one at a time, as NNCF reads them (perhaps several times), with progress shown."""

    images: Array

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Array]:
        rows = track(range(len(self)), "quantize: calibration images", len(self))
        for row in rows:
            if row == len(self) - 1:
                next(rows, None)  # NNCF reads exactly len() images and never reaches the end: end the progress here
            yield self.images[row : row + 1]


def quantize(graph: Any, calibration: Calibration, full_range: bool = False) -> Any:
    """A new graph in int8, its weights within -64..64 unless `full_range`. BackendError: an option that NNCF lacks, or
    where it finds nothing to quantize."""
    if calibration.preset not in PRESETS:
        raise BackendError(f"no quantization preset '{calibration.preset}'; there are: {', '.join(PRESETS)}")
    with redirect_stdout(io.StringIO()):  # NNCF prints progress bars on stdout, which is reserved for results
        if calibration.max_drop is None:
            result = _quantize_by_ranges(graph, calibration, full_range)
        else:
            options = _nncf_options(graph, calibration, full_range, "means")
            result = _quantize_within_drop(graph, calibration, calibration.max_drop, options)
    if not _is_quantized(result):
        raise BackendError("int8 was requested, but NNCF found nothing to quantize; remove int8 from `precisions`")
    name_by_position(result)
    return result


def _quantize_by_ranges(graph: Any, calibration: Calibration, full_range: bool) -> Any:
    """With each of RANGES; the graph whose answers on calibration images are nearest to the model's. No kind of ranges
    suits every net."""
    made = []
    for ranges in RANGES:
        result = _import_nncf().quantize(graph, **_nncf_options(graph, calibration, full_range, ranges))
        if not _is_quantized(result):
            return result
        if _is_corrected_here(calibration):
            correct_biases(result, graph, calibration.images)
        made.append(result)
    images = calibration.images[:COMPARED]
    expected = _answers(graph, images)
    return min(made, key=lambda result: float(np.square(_answers(result, images) - expected).mean()))


def _answers(graph: Any, images: Array) -> Array:
    """[N, outputs]: of each image, by OpenVINO."""
    fixed = graph.clone()
    fixed.reshape([1, *images.shape[1:]])
    compiled = compile_in_fp32(fixed)
    return np.concatenate([np.array(compiled(images[row : row + 1])[0]) for row in range(len(images))])


def _is_corrected_here(calibration: Calibration) -> bool:
    """Whether openvino_bias.py corrects the biases. It compares layer by layer, which smoothing changes; and accuracy
    control measures what NNCF itself has corrected."""
    return calibration.bias_correction == "fast" and not calibration.smooth and calibration.max_drop is None


def _is_quantized(graph: Any) -> bool:
    return any(node.get_type_name() == "FakeQuantize" for node in graph.get_ops())


def float_layers(graph: Any) -> tuple[str, ...]:
    """The layers of a quantized graph whose weights are not integers."""
    return tuple(layer.name for layer in layers(graph) if not layer.weights.get_element_type().is_integral())


def _nncf_options(graph: Any, calibration: Calibration, full_range: bool, ranges: str) -> dict[str, Any]:
    """ranges: one of RANGES."""
    nncf = _import_nncf()
    from nncf.quantization.advanced_parameters import QuantizationParameters
    from nncf.quantization.range_estimator import RangeEstimatorParameters, RangeEstimatorParametersSet

    images = CalibrationImages(calibration.images)
    ignored = [layer.node.get_friendly_name() for layer in match_layers(graph, calibration.ignore)]
    per_tensor = None if calibration.per_channel else QuantizationParameters(per_channel=False)
    return {
        "calibration_dataset": nncf.Dataset(images),
        "preset": nncf.QuantizationPreset(calibration.preset),
        "subset_size": len(images),
        "fast_bias_correction": calibration.bias_correction == "fast",
        "advanced_parameters": nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.DISABLE if full_range else nncf.OverflowFix.ENABLE,
            disable_bias_correction=calibration.bias_correction == "off" or _is_corrected_here(calibration),
            activations_range_estimator_params=(
                RangeEstimatorParametersSet.MINMAX if ranges == "extremes" else RangeEstimatorParameters()
            ),
            weights_quantization_params=per_tensor,
        ),
        # NNCF smooths activations (SmoothQuant, Xiao et al. 2022) only in models declared as transformers
        "model_type": nncf.ModelType.TRANSFORMER if calibration.smooth else None,
        "ignored_scope": nncf.IgnoredScope(names=ignored) if ignored else None,
    }


def _quantize_within_drop(graph: Any, calibration: Calibration, max_drop: float, options: dict[str, Any]) -> Any:
    """BackendError without labelled images, or when no set of layers stays within `max_drop` points."""
    nncf = _import_nncf()
    if calibration.validation is None or not len(calibration.validation[1]):
        raise BackendError("max_drop needs labelled images to measure on and got none; remove max_drop")
    images, labels = calibration.validation
    items = [(images[row : row + 1], labels[row : row + 1]) for row in range(len(labels))]
    renamed = {"advanced_parameters": "advanced_quantization_parameters"}
    with redirect_stderr(io.StringIO()):
        return nncf.quantize_with_accuracy_control(
            graph,
            validation_dataset=nncf.Dataset(items),
            validation_fn=partial(_grade, calibration.output),
            max_drop=max_drop / 100,
            drop_type=nncf.DropType.ABSOLUTE,
            advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(num_ranking_workers=1),
            **{renamed.get(name, name): value for name, value in options.items()},
        )


def _grade(output: OutputKind, compiled: Any, items: Iterable[tuple[Array, Array]]) -> tuple[float, list[float]]:
    """The accuracy of a compiled graph, and that of each image; one at a time, since a dynamic batch may give wrong
    outputs."""
    hits = [float(output.grade(compiled(image)[0], label)[0]) for image, label in items]
    return float(np.mean(hits)), hits


def _import_nncf() -> Any:
    """NNCF without telemetry, logging only errors (torch too, which it imports)."""
    import_openvino()
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf

    nncf.set_log_level(logging.ERROR)
    return nncf
