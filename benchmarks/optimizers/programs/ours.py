"""What `quantize = {}` in a recipe does. A user writes the recipe; its lines are counted in place of these."""

from collections.abc import Callable

from benchmarks.optimizers.subject import Subject
from deploy.runtime.device.probe import default_threads
from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import Calibration, backend
from toolchain.records.tensors import Array


def optimize(subject: Subject) -> Callable[[Array], Array]:
    candidate = backend("openvino").build(subject.onnx, subject.folder, "int8", Calibration(subject.calibration))
    engine = open_engine(subject.folder, candidate, Settings(default_threads())).__enter__()
    name, output = engine.inputs[0].name, engine.outputs[0].name
    return lambda image: engine.infer({name: image})[output]
