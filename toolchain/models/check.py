"""Checks every torch model before use: finite weights, and logits of the expected width.

Of a model's origin it knows only the description used in messages.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from toolchain.errors import ModelError
from toolchain.models.eval_mode import evaluation_mode
from toolchain.models.failing_layer import find_failing_layer
from toolchain.recipe import ModelSpec
from toolchain.records.output import OutputKind
from toolchain.records.tensors import Preprocessing

TRIAL_BATCH_SIZES = (2, 3)  # two sizes reveal a model with a fixed batch size
FIXED_BATCH_HINT = "do not hard-code the batch size in forward(); write x.flatten(1)"


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise ModelError for NaN or infinite values, naming the first tensor that holds any and the number of such
    tensors."""
    counts = {
        name: int(tensor.numel() - tensor.isfinite().sum())
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point()
    }
    bad = {name: count for name, count in counts.items() if count}
    if bad:
        name, count = next(iter(bad.items()))
        more = f" ({len(bad)} such tensors)" if len(bad) > 1 else ""
        raise ModelError(
            f"{source}: weights that are not finite: '{name}' has {count} NaN or infinite of "
            f"{state[name].numel()} values{more}; take an earlier checkpoint"
        )


def class_count(module: nn.Module, preprocessing: Preprocessing, source: str = "the model") -> int:
    """The width of the model's logits for images of the recipe's [input]; ModelError when its output is not logits."""
    with evaluation_mode(module):
        first, *others = (_logits_width(module, preprocessing, source, count) for count in TRIAL_BATCH_SIZES)
    if any(other != first for other in others):
        raise ModelError(f"{source}: returns {first} or {others[0]} classes depending on the batch size")
    return first


def _logits_width(module: nn.Module, preprocessing: Preprocessing, source: str, count: int) -> int:
    height, width, channels = preprocessing.shape
    shape = [count, channels, height, width]
    try:
        with torch.no_grad():
            answer = module(torch.zeros(shape))
    except Exception as error:  # a user's own forward can raise anything
        first = (str(error).splitlines() or [""])[0]
        hint = f"a batch of {TRIAL_BATCH_SIZES[0]} worked: {FIXED_BATCH_HINT}"
        if count == TRIAL_BATCH_SIZES[0]:
            hint = "check the recipe's [input]"
        raise ModelError(
            f"{source}: fails on an input of float32 {shape}{find_failing_layer(error)}: {type(error).__name__}: "
            f"{first}; {hint}"
        ) from error
    if not isinstance(answer, Tensor):
        raise ModelError(
            f"{source}: returns a {type(answer).__name__}; expected one tensor of logits [N, classes]: "
            "wrap it in a module that returns the logits alone"
        )
    if answer.ndim != 2 or answer.shape[0] != count:
        raise ModelError(
            f"{source}: returns {list(answer.shape)} for {count} images; expected logits [{count}, classes]"
        )
    return answer.shape[1]


def check_head(count: int, classes: int, source: str, spec: ModelSpec, allow_other_head: bool) -> None:
    """Raise ModelError when the head's width does not fit the data's class count, unless a later step replaces the
    head."""
    output = OutputKind(spec.output or "softmax")
    if output.fits(count, classes) or allow_other_head:
        return
    if output.is_binary(count):
        raise ModelError(
            f"{source}: one output by sigmoid tells two classes apart, but the data has {classes}; choose data with "
            "two classes, or a model with an output for each"
        )
    way = "or let a step replace the head: finetune = { replace_head = true }"
    if spec.source.endswith(".onnx"):
        way = "or export a graph with the data's classes"
    raise ModelError(
        f"{source}: {count} classes, but the data has {classes}; choose the data that it was trained on, {way}"
    )
