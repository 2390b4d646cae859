"""An OpenVINO graph -> the same graph in int8, by NNCF's post-training quantization (min-max ranges, bias correction).

Knows nothing of recipes or files. With `max_drop`, the layers that cost most accuracy return to float one by one until
the loss on labelled images is within the limit (NNCF, Quantizing with accuracy control, docs.openvino.ai).
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
from toolchain.backends.openvino_graph import import_openvino, layers, match_layers, name_by_position
from toolchain.errors import BackendError
from toolchain.progress import track
from toolchain.records.output import OutputKind
from toolchain.records.tensors import Array

PRESETS = ("mixed", "performance")


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
    options = _nncf_options(graph, calibration, full_range)
    with redirect_stdout(io.StringIO()):  # NNCF prints progress bars on stdout, which is reserved for results
        result = (
            _import_nncf().quantize(graph, **options)
            if calibration.max_drop is None
            else _quantize_within_drop(graph, calibration, calibration.max_drop, options)
        )
    if not any(node.get_type_name() == "FakeQuantize" for node in result.get_ops()):
        raise BackendError("int8 was requested, but NNCF found nothing to quantize; remove int8 from `precisions`")
    name_by_position(result)
    return result


def float_layers(graph: Any) -> tuple[str, ...]:
    """The layers of a quantized graph whose weights are not integers."""
    return tuple(layer.name for layer in layers(graph) if not layer.weights.get_element_type().is_integral())


def _nncf_options(graph: Any, calibration: Calibration, full_range: bool) -> dict[str, Any]:
    nncf = _import_nncf()
    from nncf.quantization.advanced_parameters import QuantizationParameters

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
            disable_bias_correction=calibration.bias_correction == "off",
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
