"""What may be varied: a recipe's [search], as far as the model, the data and the target allow it.

A technique that does not apply is left out with a line. Points are drawn by Optuna's own samplers.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

from toolchain.build.steps import context_for
from toolchain.build.trained_model import Model, load_staged
from toolchain.compress import parse_steps
from toolchain.compress.pruning.blocks import find_residual_blocks
from toolchain.errors import RecipeError, ToolchainError
from toolchain.recipe import SearchSpec
from toolchain.search.proposal import SearchProposal

if TYPE_CHECKING:
    from pathlib import Path

    from optuna.trial import BaseTrial

    from toolchain.build.step_benchmark import LatencyMeter
    from toolchain.job.job import BuildJob

RATIO_STEP = 0.05
CHANNEL_RATIO, INPUT_SCALES = (0.0, 0.7), (1.0, 0.875, 0.75)
LEAST_UPDATES = 200  # of the weights in the first look: fewer tell too little of what more would bring
RUNGS = (1, 3, 8)  # epochs of each further training, as multiples of the first


@dataclass(frozen=True)
class SearchSpace:
    """Every dimension with what it may be; one value alone is not varied. left_out: a line for each technique that does
    not apply."""

    channel_ratio: tuple[float, float]
    importance: tuple[str, ...]
    round_to: tuple[int, ...]
    residual: tuple[bool, ...]
    blocks: tuple[int, int]
    input_scale: tuple[float, ...]
    quantization: tuple[str, ...]
    training: tuple[str, ...]
    lr: tuple[float, float]
    left_out: tuple[str, ...] = ()

    def suggest(self, trial: "BaseTrial") -> SearchProposal:
        """A point, as the trial's sampler wants it."""
        values: dict[str, Any] = {}
        if self.channel_ratio[1]:
            low, high = self.channel_ratio
            values["channel_ratio"] = trial.suggest_float("channel_ratio", low, high, step=RATIO_STEP)
        if values.get("channel_ratio"):
            for name in ("importance", "round_to", "residual"):
                values[name] = trial.suggest_categorical(name, getattr(self, name))
        if self.blocks[1]:
            values["blocks"] = trial.suggest_int("blocks", *self.blocks)
        for name in ("input_scale", "quantization", "training"):
            values[name] = trial.suggest_categorical(name, getattr(self, name))
        values["lr"] = trial.suggest_float("lr", *self.lr, log=True)
        if "channel_ratio" in values:
            values["channel_ratio"] = round(values["channel_ratio"], 4)  # as a person would write it
        values["lr"] = float(f"{values['lr']:.2g}")
        return SearchProposal(**values)

    @property
    def is_single(self) -> bool:
        """Whether there is nothing to choose."""
        ranges = (self.channel_ratio, self.blocks, self.lr)
        choices: tuple[tuple[object, ...], ...] = (self.input_scale, self.quantization, self.training)
        if self.channel_ratio[1]:
            choices += (self.importance, self.round_to, self.residual)
        return all(low == high for low, high in ranges) and all(len(set(words)) == 1 for words in choices)


def fit_epochs(spec: SearchSpec, images: int, batch: int) -> tuple[int, ...]:
    """What the recipe says, or as many epochs as make a first look of LEAST_UPDATES, and multiples of it."""
    if spec.epochs is not None:
        return spec.epochs
    first = max(1, ceil(LEAST_UPDATES / max(1, images // batch)))
    return tuple(first * times for times in RUNGS)


def fit_space(
    spec: SearchSpec,
    job: "BuildJob",
    model: Model,
    meter: "LatencyMeter",
    work: "Path",
    takes_input: Callable[[float], str],
) -> SearchSpace:
    """The dimensions that apply to `model`, which the recipe's own steps made. takes_input: why the network does not
    take an input of a scale; "" when it does. RecipeError where nothing is left to vary."""
    lines: list[str] = []
    context, net = context_for(job, model, meter, work), load_staged(job, model)

    def applies(name: str, options: dict[str, Any]) -> bool:
        ((_, step),) = parse_steps(({name: options},), str(job.path))
        try:
            step.check(context)
            step.dry_run(net, context)
        except ToolchainError as error:
            lines.append(f"{name}: left out: {error}")
            return False
        return True

    channels = spec.channel_ratio or CHANNEL_RATIO
    highest = max(RATIO_STEP, channels[1])
    if channels[1] and not applies("prune_channels", {"ratio": highest, "round_to": 1}):
        channels = (0.0, 0.0)
    importance = tuple(
        word for word in spec.importance if not channels[1] or applies("prune_channels", _importance(highest, word))
    )
    blocks = _fit_blocks(spec, job, net.module, lines)
    quantization: tuple[str, ...] = spec.quantization if "int8" in job.precisions else ("none",)
    if quantization == ("none",):
        lines.append(f"quantization: left out: {', '.join(job.precisions)} alone is to be built")
    elif "qat" in quantization and not applies("qat", {}):
        quantization = tuple(word for word in quantization if word != "qat")
    training = tuple(word for word in spec.training if applies(word, {}))
    space = SearchSpace(
        channel_ratio=(channels[0], channels[1]),
        importance=importance or ("l2",),
        round_to=spec.round_to,
        residual=spec.residual,
        blocks=blocks,
        input_scale=tuple(_fit_scales(spec, lines, takes_input)),
        quantization=quantization,
        training=training,
        lr=(spec.lr[0], spec.lr[1]),
        left_out=tuple(dict.fromkeys(lines)),
    )
    _require_choice(space, str(job.path))
    return space


def _importance(ratio: float, word: str) -> dict[str, Any]:
    return {"ratio": ratio, "round_to": 1, "importance": word}


def _fit_blocks(spec: SearchSpec, job: "BuildJob", module: Any, lines: list[str]) -> tuple[int, int]:
    """From the lowest to the highest number; by default up to half of the blocks that can be removed."""
    if spec.blocks is not None and spec.blocks[1] == 0:
        return 0, 0
    removable = len(find_residual_blocks(module, job.recipe.input))
    if not removable:
        lines.append("prune_blocks: left out: the model has no removable residual block")
        return 0, 0
    low, high = spec.blocks or (0, max(1, removable // 2))
    if high > removable:
        raise RecipeError(
            f"{job.path}: search.blocks = [{low}, {high}]: the model has {removable} removable blocks; "
            f"write blocks = [{min(low, removable)}, {removable}]"
        )
    if not len(job.data.splits.get("validate", ())):
        lines.append("prune_blocks: left out: the data has no validation images to score blocks with")
        return 0, 0
    return low, high


def _fit_scales(spec: SearchSpec, lines: list[str], takes_input: Callable[[float], str]) -> Iterator[float]:
    for scale in spec.input_scale or INPUT_SCALES:
        reason = "" if scale == 1 else takes_input(scale)
        if reason:
            lines.append(f"input_scale {scale:g}: left out: {reason}")
        else:
            yield scale


def _require_choice(space: SearchSpace, place: str) -> None:
    """RecipeError for an empty space, or one of a single recipe."""
    empty = next((name for name in ("input_scale", "quantization", "training") if not getattr(space, name)), None)
    if empty is not None:
        reason = next((line for line in space.left_out if "left out" in line), "")
        raise RecipeError(f"{place}: search.{empty}: nothing that it names applies ({reason}); name another")
    if space.is_single:
        raise RecipeError(
            f"{place}: [search] leaves a single recipe, so there is nothing to search; build it: toolchain build, or "
            "widen channel_ratio, blocks, quantization or training"
        )
