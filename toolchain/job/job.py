"""One build: what was asked for, refused early where it cannot work, and what its stages share.

Knows the recipe and what the trained model depends on; makes nothing.
"""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec

from toolchain.backends import TABLE as TARGETS
from toolchain.backends import backend
from toolchain.compress import POST_EXPORT_STEPS, check_order, parse_steps
from toolchain.compress.distributed import distributed_context
from toolchain.compress.step import Step
from toolchain.data import DataSet, load
from toolchain.errors import BackendError, RecipeError
from toolchain.job.distributed_stages import SharedStages
from toolchain.job.stages import Make, Stages, code_digest, tool_versions
from toolchain.models import LoadedModel, load_model, source_files, user_file
from toolchain.paths import home
from toolchain.recipe import Recipe, read_recipe
from toolchain.records.manifest import Candidate, ParityRecord, Precision
from toolchain.records.storage import digest_of

logger = logging.getLogger(__name__)


# What decides a net, or how its figures are written down
MAKING = (
    "toolchain/compress",
    "toolchain/data",
    "toolchain/job/job.py",
    "toolchain/models",
    "toolchain/records",
    "deploy/runtime/preprocessing.py",
)


class Reference(msgspec.Struct, frozen=True):
    """What the model was before anything was done to it. accuracy: fp32, share of the `images` test pictures.
    after_training: it came untrained or with other classes, so the figure is of the net after its last training."""

    description: str
    labels: tuple[str, ...]
    accuracy: float | None
    images: int
    after_training: bool = False


class Measured(msgspec.Struct, frozen=True):
    """All candidates with their figures and verdicts, and how the engines' answers compare with torch's."""

    candidates: tuple[Candidate, ...]
    chosen: Precision
    choice: str
    parity: tuple[ParityRecord, ...]


@dataclass(frozen=True)
class Making:
    """One build: what was asked for, and what its stages share."""

    place: Path
    recipe: Recipe
    target: str
    data: DataSet
    pictures: DataSet  # where calibration draws from
    steps: tuple[tuple[str, Step], ...]
    threads: int
    stages: Stages

    @property
    def base(self) -> Path:
        """What the recipe's relative paths are relative to."""
        return self.place.parent

    @cached_property
    def source(self) -> dict[str, Any]:
        """What the trained model depends on: see _source."""
        return _source(self)

    def made(self, name: str, title: str, inputs: dict[str, Any], make: Make) -> Path:
        return self.stages.made(name, title, self._seeded(inputs), make)

    @property
    def shared(self) -> SharedStages | None:
        """The stages that the processes under torchrun have in common; None for one process."""
        world = distributed_context()
        return SharedStages(self.stages, world) if world.size > 1 else None

    def made_by_first(self, name: str, title: str, inputs: dict[str, Any], make: Make) -> Path:
        """As made(); under torchrun every process gets it."""
        if shared := self.shared:
            return shared.made_by_first(name, title, self._seeded(inputs), make)
        return self.made(name, title, inputs, make)

    def made_by_all(self, name: str, title: str, inputs: dict[str, Any], make: Make) -> Path:
        """As made(); under torchrun every process makes it together with the others."""
        if shared := self.shared:
            return shared.made_by_all(name, title, self._seeded(inputs), make)
        return self.made(name, title, inputs, make)

    def _seeded(self, inputs: dict[str, Any]) -> dict[str, Any]:
        return {"seed": self.recipe.build.seed, **inputs}


def read_job(place: Path, target: str) -> Making:
    """Read the recipe and refuse what its own text, its data and this machine already rule out."""
    from deploy.runtime.device.probe import default_threads

    recipe = read_recipe(place)
    room = backend(target)
    if reason := room.missing():
        raise BackendError(f"target {target}: {reason}")
    steps = parse_steps(recipe.step, str(place))
    check_order(steps, str(place))
    _check_kind(recipe, steps, place)
    _check_options(recipe, place)
    logger.info(f"data: {recipe.data.name}")
    data = load(recipe.data, recipe.input, place.parent)
    pictures = load(recipe.calibration.data, recipe.input, place.parent) if recipe.calibration else data
    return Making(
        place,
        recipe,
        target,
        data,
        pictures,
        steps,
        recipe.build.threads or default_threads(),
        Stages(home() / "cache"),
    )


def _check_kind(recipe: Recipe, steps: tuple[tuple[str, Step], ...], place: Path) -> None:
    """RecipeError for a step that works on a torch module, where the model comes as a finished graph."""
    other = next((name for name, _ in steps if name not in POST_EXPORT_STEPS), None)
    kind = {".onnx": "an ONNX file", ".pt2": "a torch.export program"}.get(Path(recipe.model.source).suffix)
    if kind and other:
        raise RecipeError(
            f"{place}: model.source is {kind}, on which only {' and '.join(POST_EXPORT_STEPS)} work, not {other}; "
            "give the model as path/file.py:function, or remove the step"
        )


def _check_options(recipe: Recipe, place: Path) -> None:
    """RecipeError for a back end that there is not, or an option that it has not."""
    for name, options in recipe.target.items():
        if name not in TARGETS:
            raise RecipeError(f"{place}: [target.{name}]: no such target; there are: {', '.join(TARGETS)}")
        known = backend(name).OPTIONS
        for option in options:
            if option not in known:
                held = f"it has: {', '.join(sorted(known))}" if known else "it has none"
                raise RecipeError(f"{place}: [target.{name}]: no option `{option}`; {held}")


def trained_model(making: Making) -> LoadedModel:
    """The model that the recipe starts from."""
    from toolchain.compress.quantization.restore import rebuild_qat_layers

    recipe = making.recipe
    return load_model(
        recipe.model,
        recipe.input,
        len(making.data.classes),
        making.base,
        allow_other_head=_replaces_head(making),
        seed=recipe.build.seed,
        rebuild=rebuild_qat_layers,
    )


def _replaces_head(making: Making) -> bool:
    return any(getattr(step, "replace_head", False) for _, step in making.steps)


def _source(making: Making) -> dict[str, Any]:
    """The spec, the bytes of every file that it names, the data and the code. One's own function may read weights from
    wherever it likes, so it is called and what it returns is looked at. Where its file lies counts too: a net in the
    cache names its classes by that place."""
    from toolchain.compress.serialization import weights_digest

    spec = making.recipe.model
    own = user_file(spec, making.base)
    module = trained_model(making).module if own and spec.weights == "own" else None
    as_graph = spec.source.endswith(".onnx")
    return {
        "model": msgspec.to_builtins(spec),
        "other_head": _replaces_head(making),
        "input": msgspec.to_builtins(making.recipe.input),
        "place": str(own or ""),
        "files": [digest_of(file) for file in source_files(spec, making.base)],
        "weights": weights_digest(module) if module is not None else "",
        "data": making.data.sha256,
        "code": code_digest(*MAKING, *(("toolchain/export",) if as_graph else ())),
        "tools": tool_versions(
            "torch", "torchvision", "torch-pruning", "pillow", *(("onnxruntime",) if as_graph else ())
        ),
    }
