"""The candidates on this machine: do they answer as torch does, how well, how fast, and which one serves.

Knows which answers are compared with which; parity/ knows how, choose.py knows what is chosen.
"""

from pathlib import Path
from shutil import copy2
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.runtime.engines import Settings, open_engine
from toolchain.choose import choose, measure_candidates
from toolchain.errors import BackendError
from toolchain.export import ort_answers, torch_answers
from toolchain.making import Making, Measured, Reference
from toolchain.parity import compare, require
from toolchain.records.files import digest_of
from toolchain.records.manifest import Candidate, ParityRecord
from toolchain.records.tensors import Array
from toolchain.samples import trial_pictures

if TYPE_CHECKING:
    from torch import nn

Made = tuple[tuple[Path, Candidate], ...]


def judged(
    making: Making, module: "nn.Module | None", onnx: Path, made: Made, reference: Reference, work: Path
) -> Measured:
    """All of `made` compared, measured and one chosen; `module` is the compressed torch net (None: an ONNX model)."""
    folder = gathered(made, work / "candidates")
    pictures = trial_pictures(making.pictures)
    settings = Settings(making.threads)
    answers, parity = _references(making, module, onnx, pictures)
    engines = [
        _compared(folder, candidate, settings, pictures, answers, "torch" if module is not None else "onnxruntime")
        for _, candidate in made
    ]
    require(parity)
    agreeing = [candidate for (_, candidate), row in zip(made, engines, strict=True) if row.passed]
    if not agreeing:
        require(engines)
    test = making.data.part("test")
    measured = measure_candidates(
        folder, tuple(agreeing), test if len(test) else None, settings, making.stages.say, pictures
    )
    judged_candidates, chosen, choice = choose(measured, reference.accuracy, making.recipe.build.max_accuracy_loss)
    refused = tuple(
        msgspec.structs.replace(candidate, verdict=f"refused: answers differ from {row.reference}'s")
        for (_, candidate), row in zip(made, engines, strict=True)
        if not row.passed
    )
    return Measured((*judged_candidates, *refused), chosen, choice, (*parity, *engines))


def gathered(made: Made, folder: Path) -> Path:
    """All candidates' files in one folder, as they will lie in the bundle; a shared file must be the same file."""
    folder.mkdir(parents=True, exist_ok=True)
    for source, candidate in made:
        for name in candidate.files:
            if (folder / name).exists() and digest_of(folder / name) != digest_of(source / name):
                raise BackendError(f"{candidate.precision}: {name} differs from another candidate's file of that name")
            copy2(source / name, folder / name)
    return folder


def engine_answers(
    folder: Path, candidate: Candidate, settings: Settings, pictures: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The answers of the engine that will serve, in batches of 16: [N, classes]."""
    with open_engine(folder, candidate, settings) as engine:
        name, output = engine.inputs[0].name, engine.outputs[0].name
        return np.concatenate(
            [engine.infer({name: pictures[at : at + 16]})[output] for at in range(0, len(pictures), 16)]
        )


def _references(
    making: Making, module: "nn.Module | None", onnx: Path, pictures: NDArray[np.uint8]
) -> tuple[Array, list[ParityRecord]]:
    ort = ort_answers(onnx / "model.onnx", pictures)
    if module is None:
        return ort, []
    torch = torch_answers(module, making.recipe.input, pictures)
    return torch, [compare(torch, ort, ("torch", "onnxruntime"), "fp32")]


def _compared(
    folder: Path, candidate: Candidate, settings: Settings, pictures: NDArray[np.uint8], answers: Array, name: str
) -> ParityRecord:
    found = engine_answers(folder, candidate, settings, pictures)
    return compare(answers, found, (name, f"{candidate.backend} {candidate.precision}"), candidate.precision)
