"""ONNX Runtime without quantization."""

from collections.abc import Callable

import onnxruntime

from benchmarks.optimizers.subject import Subject
from toolchain.records.tensors import Array


def optimize(subject: Subject) -> Callable[[Array], Array]:
    session = onnxruntime.InferenceSession(subject.onnx, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def answer(image: Array) -> Array:
        outputs: Array = session.run(None, {name: image})[0]
        return outputs

    return answer
