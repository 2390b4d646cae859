"""ONNX Runtime's quantizer: Q/DQ, unsigned activations, signed weights by channel, within 7 bits (`reduce_range`)."""

from collections.abc import Callable, Iterator
from typing import Any

import onnxruntime
from onnxruntime import quantization

from benchmarks.optimizers.subject import Subject
from toolchain.records.tensors import Array


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped
    def __init__(self, subject: Subject) -> None:
        name = onnxruntime.InferenceSession(subject.onnx).get_inputs()[0].name
        self.feeds: Iterator[dict[str, Any]] = iter([{name: image[None]} for image in subject.calibration])

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def optimize(subject: Subject, reduce_range: bool = True) -> Callable[[Array], Array]:
    path = subject.folder / "onnxruntime-int8.onnx"
    quantization.quantize_static(subject.onnx, path, Reader(subject), per_channel=True, reduce_range=reduce_range)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def answer(image: Array) -> Array:
        outputs: Array = session.run(None, {name: image})[0]
        return outputs

    return answer
