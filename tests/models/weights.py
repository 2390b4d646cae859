"""A model written with its record and read back, as `toolchain weights` and a recipe do."""

from pathlib import Path
from typing import Any

import msgspec
from torch import nn

from toolchain.models import LoadedModel, load_model
from toolchain.models.save import structure_for_source, write_weights
from toolchain.models.structure import state_tensors
from toolchain.recipe import ModelSpec
from toolchain.records.tensors import Preprocessing
from toolchain.records.weights import AppliedStep, Structure, Weights

SHAPE = Preprocessing(32, 32)


def record(spec: ModelSpec, structure: Structure, classes: int = 5, shape: Preprocessing = SHAPE) -> Weights:
    return Weights(
        source=spec.source,
        options=spec.options,
        classes=classes,
        recipe="made",
        input=shape,
        data="made",
        seed=0,
        steps=(AppliedStep("prune_channels", {"ratio": 0.3}),),
        structure=structure,
        accuracy=0.5,
        images=10,
        parameters=1,
        macs=1,
        tools={},
        command="toolchain weights made.toml --out=w.safetensors",
    )


def written(spec: ModelSpec, module: nn.Module, folder: Path, base: Path = Path(), **changes: Any) -> Path:
    """`module` as a file in `folder`; changes: of the structure, on top of what is found."""
    structure = msgspec.structs.replace(structure_for_source(spec, base, module, 5), **changes)
    path = folder / "w.safetensors"
    write_weights(module, state_tensors(module), record(spec, structure), spec, base, path, None)
    return path


def back(spec: ModelSpec, path: Path, base: Path = Path(), classes: int = 5, **more: Any) -> LoadedModel:
    again = ModelSpec(spec.source, str(path.resolve()), None, spec.options)
    return load_model(again, SHAPE, classes, base, **more)
