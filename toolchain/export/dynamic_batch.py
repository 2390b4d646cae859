"""Makes the batch size of a graph dynamic that was exported for a fixed one, and verifies it by running the graph.

Knows the usual places where exporters store the batch size (the shapes of Reshapes); if there are others, the check
fails and reports it.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from toolchain.errors import ExportError

CHECK_IMAGES = 3  # in one batch, against one by one
TOLERANCE = 1e-3  # of the largest logit


def make_batch_dynamic(graph: onnx.GraphProto, batch: int | None) -> None:
    """Make every Reshape of an activation keep its first axis where that was the fixed batch size `batch`."""
    if batch is None:
        return
    stored = {tensor.name: tensor for tensor in graph.initializer}
    constants = {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    for number, node in enumerate(graph.node):
        if node.op_type != "Reshape" or node.input[0] in stored:
            continue
        tensor = stored.get(node.input[1]) or constants.get(node.input[1])
        shape = numpy_helper.to_array(tensor).copy() if tensor is not None else np.zeros(0, np.int64)
        if len(shape) < 2 or shape[0] != batch:
            continue
        shape[0] = 0  # in ONNX: the same as the input's
        node.input[1] = f"free_batch.{number}"
        graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))


def check_dynamic_batch(content: bytes, shape: tuple[int, int, int], source: Path) -> None:
    """ExportError unless a batch of images gets the same outputs as each image alone."""
    images = np.random.default_rng(0).integers(0, 256, (CHECK_IMAGES, *shape), np.uint8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are raised
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        together = np.asarray(session.run(None, {name: images})[0])
        alone = np.concatenate(
            [np.asarray(session.run(None, {name: images[at : at + 1]})[0]) for at in range(CHECK_IMAGES)]
        )
    except Exception as error:  # onnxruntime creates its exception classes at run time
        first = str(error).splitlines()[0]
        raise ExportError(
            f"{source}: does not run with batches of 1 and {CHECK_IMAGES}: {first}; {_advice()}"
        ) from error
    if together.shape != alone.shape or np.abs(together - alone).max() > TOLERANCE * np.abs(alone).max():
        raise ExportError(f"{source}: a batch of {CHECK_IMAGES} images gets other outputs than one by one; {_advice()}")


def _advice() -> str:
    return "export it with a dynamic batch: torch.onnx.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},))"
