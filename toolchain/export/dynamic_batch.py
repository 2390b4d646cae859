"""A graph that was exported for one batch size, freed: shapes written into Reshapes, and the proof by running it.

Knows the usual places where exporters write the batch down; where there are others, the proof fails and says so.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

from toolchain.errors import ExportError

CHECK_IMAGES = 3  # pictures together, against one by one
TOLERANCE = 1e-3  # of the largest logit


def make_batch_dynamic(graph: onnx.GraphProto, batch: int | None) -> None:
    """Let every Reshape of an activation keep its first axis where that was the fixed batch size `batch`."""
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
        shape[0] = 0  # ONNX: as in the input
        node.input[1] = f"free_batch.{number}"
        graph.initializer.append(numpy_helper.from_array(shape, node.input[1]))


def check_dynamic_batch(content: bytes, shape: tuple[int, int, int], source: Path) -> None:
    """ExportError unless several pictures together get the answers that each gets alone."""
    pictures = np.random.default_rng(0).integers(0, 256, (CHECK_IMAGES, *shape), np.uint8)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        together = np.asarray(session.run(None, {name: pictures})[0])
        alone = np.concatenate(
            [np.asarray(session.run(None, {name: pictures[at : at + 1]})[0]) for at in range(CHECK_IMAGES)]
        )
    except Exception as error:  # onnxruntime's own classes, made at run time
        first = str(error).splitlines()[0]
        raise ExportError(f"{source}: cannot take batches of 1 and {CHECK_IMAGES}: {first}; {_advice()}") from error
    if together.shape != alone.shape or np.abs(together - alone).max() > TOLERANCE * np.abs(alone).max():
        raise ExportError(f"{source}: {CHECK_IMAGES} pictures together get other answers than one by one; {_advice()}")


def _advice() -> str:
    return "export it with a free batch: torch.onnx.export(..., dynamic_shapes=({0: torch.export.Dim('batch')},))"
