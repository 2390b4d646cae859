"""A torch model -> one ONNX file: uint8 images in, logits out, any batch size.

torch.export captures the model, torch.onnx translates it and folds BatchNorms into convolutions. The same model gives
the same bytes. Knows nothing of what the file is for.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from copy import deepcopy
from io import StringIO
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from toolchain.errors import ExportError
from toolchain.export.error_location import capture_error, translation_error
from toolchain.export.normalize import INPUT, OUTPUT, serialize_normalized
from toolchain.export.qdq import use_onnx_operators
from toolchain.failures import save_traceback
from toolchain.models.preprocessing import PreprocessedModel
from toolchain.records.storage import write_atomically
from toolchain.records.tensors import Preprocessing

OPSET = 18
TRACED_BATCH = 2  # torch.export treats a batch of 0 or 1 as a constant


def onnx_from_torch(module: nn.Module, preprocessing: Preprocessing, path: Path) -> Path:
    """Write `path`: input `image` uint8 [N, H, W, C], output `logits` float32 [N, classes].

    module: float32 [N, C, H, W] -> logits; it is not changed. ExportError names the operation that cannot be exported,
    and its line.
    """
    whole = PreprocessedModel(_exportable_copy(module), preprocessing).eval()
    image = torch.zeros((TRACED_BATCH, *preprocessing.shape), dtype=torch.uint8)
    with _silence_exporter(), torch.no_grad():
        program = _capture(whole, image)
        try:
            exported = torch.onnx.export(
                program, (), input_names=[INPUT], output_names=[OUTPUT], opset_version=OPSET, verbose=False
            )
        except Exception as error:  # the exporter wraps whatever its translation functions raise
            raise ExportError(f"{translation_error(error)}; {save_traceback(error)}") from error
    if exported is None or len(exported.model_proto.graph.output) != 1:
        raise ExportError("the model returns several tensors; expected only logits [N, classes]")
    write_atomically(path, serialize_normalized(exported.model_proto))
    return path


def _exportable_copy(module: nn.Module) -> nn.Module:
    return use_onnx_operators(deepcopy(module).cpu()).eval()


def _capture(whole: nn.Module, image: torch.Tensor) -> ExportedProgram:
    try:
        return torch.export.export(whole, (image,), dynamic_shapes=({0: Dim("batch")},), strict=False)
    except Exception as error:  # whatever the user's forward raises while it is traced
        raise ExportError(f"{capture_error(error)}; {save_traceback(error)}") from error


@contextmanager
def _silence_exporter() -> Iterator[None]:
    """Suppress the exporter's own logs, graphs, tracebacks and deprecations; failures are raised anyway."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
