"""A proposal becomes a recipe: the user's own, with steps that cut, train and quantize in place of its quantization.

Training goes on: what is trained further has one training step more, so that the steps before it are kept stages, and
`toolchain build` makes the very same model of the recipe.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from typing import Any

import msgspec

from toolchain.compress import POST_EXPORT_STEPS
from toolchain.errors import RecipeError
from toolchain.recipe import CalibrationSpec, DataSpec, ModelSpec, Recipe
from toolchain.recipe_files import CHECKPOINTS, GRAPHS
from toolchain.search.proposal import SearchProposal

TableOfStep = dict[str, dict[str, Any]]
QAT_LR = 5e-4  # quantized weights fall apart at more (recipes/cifar10-resnet20-qat.toml)
UNCUT = "uncut"


@dataclass(frozen=True)
class RecipeBase:
    """What every recipe of a search shares. before: the recipe's own steps on torch, which stay first; quantize: the
    options of its `quantize` step; epochs: of each rung; floor: points of accuracy that may be lost."""

    recipe: Recipe
    before: tuple[TableOfStep, ...]
    quantize: dict[str, Any]
    epochs: tuple[int, ...]
    floor: float

    def compose(self, proposal: SearchProposal | None, rungs: int) -> Recipe:
        """The recipe of `proposal`, trained for so many rungs; None: the user's own model and steps, uncut."""
        steps = [*self.before, *(() if proposal is None else self._steps(proposal, rungs))]
        quantization = "ptq" if proposal is None else proposal.quantization
        if quantization == "ptq":
            steps.append({"quantize": self.quantize})
        build = msgspec.structs.replace(self.recipe.build, max_accuracy_loss=self.floor, refuse=False)
        if quantization == "qat":  # it has one precision, which the step names
            build = msgspec.structs.replace(build, precisions=None)
        recipe = msgspec.structs.replace(self.recipe, step=tuple(steps), build=build, search=None)
        if proposal is None:
            return msgspec.structs.replace(recipe, name=f"{recipe.name}-{UNCUT}")
        return msgspec.structs.replace(
            recipe,
            name=f"{recipe.name}-{proposal.key}-{sum(self.epochs[:rungs])}e",
            input=_scale_input(recipe, proposal.input_scale).input,
        )

    def compose_cut(self, proposal: SearchProposal, samples: int) -> Recipe:
        """What is timed before anything is trained: the cut net, quantized on few images and without looking at its
        accuracy, neither of which changes its speed. Learned quantization has the same shape."""
        untrained = msgspec.structs.replace(
            proposal, quantization="none" if proposal.quantization == "none" else "ptq", lr=0.0
        )
        quick = {**self.quantize, "samples": min(samples, self.quantize["samples"]), "bias_correction": "off"}
        quick.pop("max_drop", None)
        return RecipeBase(self.recipe, self.before, quick, (), self.floor).compose(untrained, 0)

    def _steps(self, proposal: SearchProposal, rungs: int) -> list[TableOfStep]:
        steps: list[TableOfStep] = []
        if proposal.blocks:
            steps.append({"prune_blocks": {"count": proposal.blocks}})
        if proposal.channel_ratio:
            names = ("importance", "round_to", "residual")
            options = {name: getattr(proposal, name) for name in names}
            steps.append({"prune_channels": {"ratio": proposal.channel_ratio, **options}})
        if proposal.quantization != "qat" or not rungs:
            return steps + [self._training(proposal, epochs, proposal.lr) for epochs in self.epochs[:rungs]]
        if proposal.is_cut:  # learns what it lost first, and to be quantized last
            steps += [self._training(proposal, epochs, proposal.lr) for epochs in self.epochs[:rungs]]
            return [*steps, self._qat(proposal, self.epochs[0])]
        later = [self._training(proposal, epochs, QAT_LR) for epochs in self.epochs[1:rungs]]
        return [*steps, self._qat(proposal, self.epochs[0]), *later]

    def _training(self, proposal: SearchProposal, epochs: int, lr: float) -> TableOfStep:
        return {proposal.training: {"epochs": epochs, "lr": lr}}

    def _qat(self, proposal: SearchProposal, epochs: int) -> TableOfStep:
        options = {"epochs": epochs, "lr": QAT_LR, "distill": proposal.training == "distill"}
        return {"qat": {**options, "calibration_samples": self.quantize["samples"]}}


def split_steps(recipe: Recipe, place: str) -> tuple[tuple[TableOfStep, ...], dict[str, Any] | None, list[str]]:
    """The recipe's own steps on torch, the options of its `quantize` step, and a line for each step that the search
    leaves out. RecipeError for a net that its steps quantize already."""
    before, quantize, lines = [], None, []
    for number, step in enumerate(recipe.step, 1):
        (name,) = step
        if name == "qat":
            raise RecipeError(
                f"{place}: step {number}, qat: a quantized net cannot be cut any more; remove it, the search tries it "
                "by itself"
            )
        if name == "quantize":
            quantize = dict(step[name])
        elif name in POST_EXPORT_STEPS:
            lines.append(f"step {number}, {name}: not searched; left out")
        else:
            before.append(step)
    return tuple(before), quantize, lines


def relocate(recipe: Recipe, old: Path, new: Path) -> Recipe:
    """The same recipe as it reads in the folder `new`: its paths were relative to `old`."""

    def move(path: str) -> str:
        return relpath(old / path, new)

    data, calibration = recipe.data, recipe.calibration
    if calibration is not None:
        images = move(calibration.images) if calibration.images else None
        calibration = CalibrationSpec(_move_data(calibration.data, move), images)
    return msgspec.structs.replace(
        recipe,
        model=_move_model(recipe.model, move),
        data=_move_data(data, move),
        calibration=calibration,
        step=tuple(_move_teachers(step, move) for step in recipe.step),
    )


def _move_model(model: ModelSpec, move: Callable[[str], str]) -> ModelSpec:
    file, colon, function = model.source.rpartition(":")
    source = model.source
    if colon and file.endswith(".py"):
        source = f"{move(file)}:{function}"
    elif Path(source).suffix in GRAPHS:
        source = move(source)
    weights = move(model.weights) if Path(model.weights).suffix in CHECKPOINTS else model.weights
    labels = move(model.labels) if model.labels else None
    return msgspec.structs.replace(model, source=source, weights=weights, labels=labels)


def _move_data(data: DataSpec | None, move: Callable[[str], str]) -> DataSpec | None:
    if data is None or data.path is None:
        return data
    return msgspec.structs.replace(data, path=move(data.path))


def _move_teachers(step: TableOfStep, move: Callable[[str], str]) -> TableOfStep:
    """A step's teachers are models too."""
    ((name, options),) = step.items()
    teachers: Sequence[dict[str, Any]] = options.get("teachers", ())
    if not teachers:
        return step
    moved = [_move_model(msgspec.convert(teacher, ModelSpec), move) for teacher in teachers]
    plain = [{key: value for key, value in msgspec.to_builtins(model).items() if value is not None} for model in moved]
    return {name: {**options, "teachers": plain}}


def _scale_input(recipe: Recipe, scale: float) -> Recipe:
    """The recipe with a smaller input; what is resized before the crop shrinks with it."""
    if scale == 1:
        return recipe
    shape = recipe.input
    resize = shape.resize
    if isinstance(resize, tuple):
        resize = (round(resize[0] * scale), round(resize[1] * scale))
    elif resize is not None:
        resize = round(resize * scale)
    smaller = msgspec.structs.replace(
        shape, height=round(shape.height * scale), width=round(shape.width * scale), resize=resize
    )
    return msgspec.structs.replace(recipe, input=smaller)
