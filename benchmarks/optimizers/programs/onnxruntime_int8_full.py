"""The same with all 8 bits, which CPUs without VNNI do not add exactly."""

from collections.abc import Callable

from benchmarks.optimizers.programs import onnxruntime_int8
from benchmarks.optimizers.subject import Subject
from toolchain.records.tensors import Array


def optimize(subject: Subject) -> Callable[[Array], Array]:
    return onnxruntime_int8.optimize(subject, reduce_range=False)
