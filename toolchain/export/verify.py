"""Runs the same images through torch and ONNX Runtime in batches and compares the logits.

Knows nothing of the engines that serve (deploy.runtime does), nor of tolerances per precision (parity does): this is
fp32 against fp32, where only rounding may differ.
"""

from collections.abc import Callable, Sequence
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from toolchain.data import Split
from toolchain.data.dataset import Images
from toolchain.errors import ExportError
from toolchain.export.normalize import INPUT, OUTPUT
from toolchain.export.qdq import has_qat_layers
from toolchain.models.eval_mode import device_of, evaluation_mode
from toolchain.models.onnx_file.interface import OnnxGraph
from toolchain.models.onnx_file.runner import iterate_scores, original_scores
from toolchain.models.preprocessing import PreprocessedModel
from toolchain.progress import track
from toolchain.records.manifest import ParityRecord
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Preprocessing

BATCH = 32
TRIED_BATCHES = (1, 2, 5, 32)  # a graph that was traced with one batch size must accept these too
TOLERANCE = 1e-3  # of the largest logit
# Where activations are rounded, a sum in another order may round the other way, which moves one value by a whole step
# and everything that depends on it (ResNet-20: half the images are exact, the worst is off by 0.02).
ROUNDED_TOLERANCE = 0.1
HALF_TOLERANCE = 2e-2  # a file that computes at 16 bits rounds each layer's output; see toolchain.parity
Logits = NDArray[np.float32]


def torch_logits(module: nn.Module, preprocessing: Preprocessing, images: Images, batch: int = BATCH) -> Logits:
    """Logits float32 [N, classes] for uint8 [N, H, W, C], in evaluation mode, on the device of the module's weights."""
    device = device_of(module)
    whole = PreprocessedModel(module, preprocessing).to(device)
    with evaluation_mode(module), torch.inference_mode():
        return _run_batches(
            lambda chunk: whole(torch.from_numpy(chunk).to(device)).float().cpu().numpy(), images, (batch,)
        )


def ort_logits(onnx: Path, images: Images, batches: Sequence[int] = (BATCH,), as_written: bool = False) -> Logits:
    """Logits float32 [N, classes] for uint8 [N, H, W, C] by ONNX Runtime on the CPU.

    batches: the sizes of the first batches; the last one repeats to the end. as_written: run every operation by itself,
    without fusing (Q/DQ and a convolution would become one integer operation). ExportError when ONNX Runtime refuses
    the graph or a batch."""
    session = _session(onnx, as_written)

    def infer(chunk: Images) -> Logits:
        try:
            return np.asarray(session.run([OUTPUT], {INPUT: chunk})[0], np.float32)
        except Exception as error:  # onnxruntime creates its exception classes at run time
            first = str(error).splitlines()[0]
            raise ExportError(f"{onnx}: ONNX Runtime fails on a batch of {len(chunk)}: {first}") from error

    return _run_batches(infer, images, batches)


def check_onnx(onnx: Path, module: nn.Module, preprocessing: Preprocessing, images: Images) -> ParityRecord:
    """The distance between ONNX Runtime and torch on `images` (uint8 [N, H, W, C]), in batches of 1, 2, 5 and 32.

    ExportError naming the worst image when it is off by more than a thousandth of the largest logit, or by more than a
    tenth where quantization-aware training put rounding into the model.
    """
    rounds = has_qat_layers(module)
    expected, actual = torch_logits(module, preprocessing, images), ort_logits(onnx, images, TRIED_BATCHES, rounds)
    advice = "does forward() leave torch (numpy, random numbers, Python numbers made from tensors)?"
    return _compare(onnx, "torch", expected, actual, ROUNDED_TOLERANCE if rounds else TOLERANCE, advice)


def check_converted(onnx: Path, source: OnnxGraph, preprocessing: Preprocessing, images: Images) -> ParityRecord:
    """The distance between a user's own ONNX file as it is and the graph that was made of it, on `images` (uint8
    [N, H, W, C]). ExportError as in check_onnx; a file that computes at 16 bits may be off by their rounding."""
    expected, actual = original_scores(source, preprocessing, images), ort_logits(onnx, images, TRIED_BATCHES)
    advice = "please report it with the file; --target makes no difference"
    return _compare(onnx, source.path.name, expected, actual, HALF_TOLERANCE if source.half else TOLERANCE, advice)


def _compare(
    onnx: Path, reference: str, expected: Logits, actual: Logits, tolerance: float, advice: str
) -> ParityRecord:
    if expected.shape != actual.shape:
        raise ExportError(f"{onnx}: ONNX Runtime returns {list(actual.shape)}, {reference} {list(expected.shape)}")
    distance = np.abs(expected - actual).max(axis=1)
    worst = int(distance.argmax())
    largest = float(np.abs(expected).max())
    relative = float(distance[worst]) / largest if largest else float(distance[worst])
    record = ParityRecord(
        reference,
        "onnxruntime",
        len(expected),
        float(distance[worst]),
        float(np.abs(expected - actual).mean()),
        relative,
        float((expected.argmax(1) == actual.argmax(1)).mean()),
        worst,
        tolerance,
        0.0,
        bool(relative <= tolerance),
    )
    if not record.passed:
        raise ExportError(
            f"{onnx}: ONNX Runtime's outputs differ from {reference}'s: image {worst} is off by {record.max_abs:.3g}, "
            f"{relative:.2g} of the largest logit, at most {tolerance:g} allowed; {advice}"
        )
    return record


def check_classes(onnx: Path, images: Images, classes: int, output: OutputKind = SOFTMAX) -> None:
    """ExportError when the graph's output width, which a file may leave open, does not fit the data's classes."""
    width = ort_logits(onnx, images[:1]).shape[1]
    if not output.fits(width, classes):
        raise ExportError(
            f"{onnx}: returns {width} classes, but the data has {classes}; export a model with the data's classes"
        )


def ort_accuracy(source: OnnxGraph, preprocessing: Preprocessing, split: Split, output: OutputKind = SOFTMAX) -> float:
    """Top-1 of a user's own ONNX file, as it is, on `split`, or the mean F1 of its labels (OutputKind.grade), 0..1."""
    return float(output.grade(ort_scores(source, preprocessing, split), split.labels).mean())


def ort_scores(source: OnnxGraph, preprocessing: Preprocessing, split: Split) -> Logits:
    """The outputs [N, outputs] of a user's own ONNX file, as it is, for every image of `split`."""
    scores = iterate_scores(source, preprocessing, split.images)
    total = -(-len(split) // (source.image.batch or BATCH))
    return np.concatenate(list(track(scores, "fp32 onnxruntime, test", total)))


def _session(path: Path, as_written: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime creates its exception classes at run time
        raise ExportError(f"{path}: ONNX Runtime cannot load it: {str(error).splitlines()[0]}") from error


def _run_batches(infer: Callable[[Images], Logits], images: Images, batches: Sequence[int]) -> Logits:
    logits, at = [], 0
    for size in chain(batches, repeat(batches[-1])):
        if at >= len(images):
            break
        logits.append(infer(np.ascontiguousarray(images[at : at + size])))
        at += size
    if not logits:
        raise ExportError("no images to compare outputs on; expected at least one")
    return np.concatenate(logits)
