"""What a user's ONNX file answers as it is: ONNX Runtime on the untouched file, preprocessing by numpy.

What parity and accuracy are held against: it shares no code with the conversion that is to be checked.
"""

from collections.abc import Callable, Iterator

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import helper

from toolchain.data.dataset import ImageSource
from toolchain.errors import ModelError
from toolchain.models.onnx_file.interface import ImageInput, OnnxGraph
from toolchain.models.preprocessing import offset_and_scale
from toolchain.records.tensors import Array, Preprocessing

BATCH = 32


def original_scores(
    source: OnnxGraph, preprocessing: Preprocessing, images: ImageSource, batch: int = BATCH
) -> NDArray[np.float32]:
    """float32 [N, classes] for uint8 [N, H, W, C], from the file's own output. ModelError when it cannot be run."""
    return np.concatenate(list(iterate_scores(source, preprocessing, images, batch)))


def iterate_scores(
    source: OnnxGraph, preprocessing: Preprocessing, images: ImageSource, batch: int = BATCH
) -> Iterator[NDArray[np.float32]]:
    """original_scores in batches; a graph of a fixed batch size gets that, filled up with black images."""
    yield from _iterate(source, images, lambda chunk: prepare_input(source.image, preprocessing, chunk), batch)


def scores_of_inputs(source: OnnxGraph, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 [N, classes] for float32 [N, H, W, C] that were preprocessed by others. ModelError when it cannot be run,
    and where the graph takes bytes."""
    if source.image.takes_bytes:
        raise ModelError(f"{source.path}: takes bytes, its preprocessing is in the graph; remove input.transform")
    return np.concatenate(list(_iterate(source, values, lambda chunk: arrange_input(source.image, chunk), BATCH)))


def _iterate(
    source: OnnxGraph, images: ImageSource | Array, prepare: Callable[[Array], Array], batch: int
) -> Iterator[NDArray[np.float32]]:
    session, size = open_session(source), source.image.batch or batch
    for at in range(0, len(images), size):
        chunk = np.ascontiguousarray(images[at : at + size])
        missing = size - len(chunk) if source.image.batch else 0
        feeds = prepare(np.pad(chunk, ((0, missing), (0, 0), (0, 0), (0, 0))))
        try:
            (scores,) = session.run([source.output.name], {source.image.name: feeds})
        except Exception as error:  # onnxruntime creates its exception classes at run time
            raise ModelError(f"{source.path}: ONNX Runtime cannot run it: {_first_line(error)}") from error
        yield np.asarray(scores, np.float32).reshape(size if missing else len(chunk), -1)[: len(chunk)]


def score_count(source: OnnxGraph, preprocessing: Preprocessing) -> int:
    """The width of the output, by running one black image: for a graph that does not write it down."""
    return int(original_scores(source, preprocessing, np.zeros((1, *preprocessing.shape), np.uint8)).shape[1])


def prepare_input(image: ImageInput, preprocessing: Preprocessing, images: NDArray[np.uint8]) -> Array:
    """uint8 [N, H, W, C] as the graph takes it: channel order and normalization, then layout and type."""
    values: Array = images[..., ::-1] if preprocessing.order == "bgr" else images
    if not image.takes_bytes:
        offset, scale = (np.array(each, np.float32) for each in offset_and_scale(preprocessing))
        values = (values.astype(np.float32) - offset) * scale
    return arrange_input(image, values)


def arrange_input(image: ImageInput, values: Array) -> Array:
    """[N, H, W, C] in the layout and type that the graph takes."""
    if image.layout == "nchw":
        values = values.transpose(0, 3, 1, 2)
    elif image.layout != "nhwc":
        values = values[..., 0] if image.layout == "hw" else values.reshape(len(values), -1)
    return np.ascontiguousarray(values, helper.tensor_dtype_to_np_dtype(image.dtype))


def open_session(source: OnnxGraph) -> onnxruntime.InferenceSession:
    """ONNX Runtime on the file as it is; ModelError when it cannot load it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # failures are raised
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(str(source.path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime creates its exception classes at run time
        reason = _first_line(error)
        raise ModelError(f"{source.path}: ONNX Runtime cannot load it: {reason}; export it again") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]
