"""NNCF's post-training quantization by its defaults, run by OpenVINO."""

from collections.abc import Callable

import nncf
import openvino

from benchmarks.optimizers.subject import Subject
from toolchain.records.tensors import Array


def optimize(subject: Subject) -> Callable[[Array], Array]:
    model = openvino.convert_model(subject.onnx)
    model.reshape([1, *subject.calibration.shape[1:]])
    quantized = nncf.quantize(model, nncf.Dataset([image[None] for image in subject.calibration]))
    openvino.save_model(quantized, subject.folder / "nncf.xml")
    compiled = openvino.compile_model(quantized, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    return lambda image: compiled(image)[0]
