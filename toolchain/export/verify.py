"""The same pictures through torch and through ONNX Runtime, in batches, and whether they agree.

Knows nothing of engines that serve (deploy.runtime does), nor of tolerances by precision (parity does): this is fp32
against fp32, where only rounding may differ.
"""

from collections.abc import Callable, Sequence
from itertools import chain, repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from toolchain.data import Split
from toolchain.errors import ExportError
from toolchain.export.from_onnx import onnx_from_onnx
from toolchain.export.normalize import INPUT, OUTPUT
from toolchain.export.qdq import has_qat_layers
from toolchain.models.eval_mode import device_of, evaluation_mode
from toolchain.models.preprocessing import PreprocessedModel
from toolchain.progress import counted
from toolchain.records.manifest import ParityRecord
from toolchain.records.tensors import Preprocessing

BATCH = 32
TRIED_BATCHES = (1, 2, 5, 32)  # what a graph that was traced with one batch size must also take
TOLERANCE = 1e-3  # of the largest logit
# Where activations are rounded, a sum in another order may fall on the other side of a rounding edge; that moves one
# value by a whole step, and what follows from it (ResNet-20: half the pictures are exact, the worst is off by 0.02).
ROUNDED_TOLERANCE = 0.1
Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


def torch_logits(module: nn.Module, preprocessing: Preprocessing, images: Images, batch: int = BATCH) -> Logits:
    """Logits float32 [N, classes] for uint8 [N, H, W, C], in evaluation mode, where the module's weights are."""
    device = device_of(module)
    whole = PreprocessedModel(module, preprocessing).to(device)
    with evaluation_mode(module), torch.inference_mode():
        return _run_batches(
            lambda part: whole(torch.from_numpy(part).to(device)).float().cpu().numpy(), images, (batch,)
        )


def ort_logits(onnx: Path, images: Images, batches: Sequence[int] = (BATCH,), as_written: bool = False) -> Logits:
    """Logits float32 [N, classes] for uint8 [N, H, W, C] by ONNX Runtime on the CPU; `batches` are the sizes of the
    first batches, the last of them goes on to the end. as_written: operation by
    operation, none fused (Q/DQ and convolution become one in integers). ExportError when ONNX Runtime refuses the graph
    or a batch."""
    session = _session(onnx, as_written)

    def answer(part: Images) -> Logits:
        try:
            return np.asarray(session.run([OUTPUT], {INPUT: part})[0], np.float32)
        except Exception as error:  # onnxruntime's own classes, made at run time
            first = str(error).splitlines()[0]
            raise ExportError(f"{onnx}: ONNX Runtime fails on a batch of {len(part)}: {first}") from error

    return _run_batches(answer, images, batches)


def check_onnx(onnx: Path, module: nn.Module, preprocessing: Preprocessing, images: Images) -> ParityRecord:
    """How far ONNX Runtime is from torch on `images` (uint8 [N, H, W, C]), in batches of 1, 2, 5 and 32.

    ExportError naming the worst picture when it is more than a thousandth of the largest logit; a tenth, where training
    put rounding into the net.
    """
    rounds = has_qat_layers(module)
    tolerance = ROUNDED_TOLERANCE if rounds else TOLERANCE
    expected, found = torch_logits(module, preprocessing, images), ort_logits(onnx, images, TRIED_BATCHES, rounds)
    if expected.shape != found.shape:
        raise ExportError(f"{onnx}: ONNX Runtime answers {list(found.shape)}, torch {list(expected.shape)}")
    distance = np.abs(expected - found).max(axis=1)
    worst = int(distance.argmax())
    largest = float(np.abs(expected).max())
    relative = float(distance[worst]) / largest if largest else float(distance[worst])
    record = ParityRecord(
        "torch",
        "onnxruntime",
        len(images),
        float(distance[worst]),
        float(np.abs(expected - found).mean()),
        relative,
        float((expected.argmax(1) == found.argmax(1)).mean()),
        worst,
        tolerance,
        0.0,
        bool(relative <= tolerance),
    )
    if not record.passed:
        raise ExportError(
            f"{onnx}: ONNX Runtime answers differently from torch: picture {worst} is off by {record.max_abs:.3g}, "
            f"{relative:.2g} of the largest logit, at most {tolerance:g} allowed; does forward() leave torch (numpy, "
            "random numbers, Python numbers made of tensors)?"
        )
    return record


def check_classes(onnx: Path, images: Images, classes: int) -> None:
    """ExportError when the graph answers with another width than the data's class count: a file may leave that open."""
    found = ort_logits(onnx, images[:1]).shape[1]
    if found != classes:
        raise ExportError(f"{onnx}: answers {found} classes, but the data has {classes}; export one with the data's")


def ort_accuracy(source: Path, preprocessing: Preprocessing, part: Split) -> float:
    """Top-1 of a user's own ONNX file on `part`, its preprocessing put before it: a share, 0..1."""
    with TemporaryDirectory() as folder:
        path = onnx_from_onnx(source, preprocessing, Path(folder) / "model.onnx")
        session = _session(path)
        right = 0
        for at in counted(range(0, len(part), BATCH), "fp32 onnxruntime, test"):
            images = np.ascontiguousarray(part.images[at : at + BATCH])
            answer = np.asarray(session.run([OUTPUT], {INPUT: images})[0])
            right += int((answer.argmax(1) == part.labels[at : at + BATCH]).sum())
    return right / len(part)


def _session(path: Path, as_written: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes, made at run time
        raise ExportError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error


def _run_batches(answer: Callable[[Images], Logits], images: Images, batches: Sequence[int]) -> Logits:
    found, at = [], 0
    for size in chain(batches, repeat(batches[-1])):
        if at >= len(images):
            break
        found.append(answer(np.ascontiguousarray(images[at : at + size])))
        at += size
    if not found:
        raise ExportError("no pictures to compare answers on; expected at least one")
    return np.concatenate(found)
