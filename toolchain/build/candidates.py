"""The candidates on this machine: do they answer as torch does, how well, how fast, and which one serves.

Knows which answers are compared with which; parity/ knows how, choose.py knows what is chosen.
"""

import logging
from contextlib import suppress
from pathlib import Path
from shutil import copy2, rmtree
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.runtime.engines import Settings, open_engine
from toolchain.backends import backend
from toolchain.build.choose import choose, measure_candidates
from toolchain.errors import BackendError, DeviceError
from toolchain.export import ort_logits, torch_logits
from toolchain.job.job import Making, Measured, Reference
from toolchain.job.precisions import learned
from toolchain.job.samples import trial_pictures
from toolchain.parity import compare_three_ways, require_parity
from toolchain.records.manifest import Candidate, Precision
from toolchain.records.storage import digest_of

if TYPE_CHECKING:
    from torch import nn

logger = logging.getLogger(__name__)


BATCH_ENDS = (1, 4, 12, 44)  # batches of 1, 3, 8, 32, and the rest
Made = tuple[tuple[Path, Candidate], ...]


def judged(
    making: Making, module: "nn.Module | None", onnx: Path, made: Made, reference: Reference, work: Path
) -> Measured:
    """All of `made` compared, measured and one chosen; `module` is the compressed torch net (None: an ONNX model).

    A candidate that answers otherwise than the net is refused by name; ParityError when none is left. Of an engine that
    computes nothing (null) only the latency is judged.
    """
    room = backend(making.target)
    here = tuple((place, room.stand_in(candidate) or candidate) for place, candidate in made)
    elsewhere = here != made
    if elsewhere:
        logger.info(f"  no device for {making.target} here: ONNX Runtime answers, nothing is timed")
    folder = gathered(here, work / "candidates")
    pictures, settings = trial_pictures(making.data), Settings(making.threads)
    torch = None if module is None else torch_logits(module, making.recipe.input, pictures)
    computes = room.COMPUTES
    answers = _answered(folder, here, settings, pictures) if computes else {}
    taught = _learned(making, made)
    parity = compare_three_ways(
        torch, ort_logits(onnx / "model.onnx", pictures), answers, _named(making.target, elsewhere), taught
    )
    differing = {
        precision for precision in answers for row in parity if row.candidate.endswith(precision) and not row.passed
    }
    if len(differing) == len(answers) or not all(row.passed for row in parity if row.candidate.startswith("onnx")):
        require_parity(parity)
    agreeing = tuple(candidate for _, candidate in here if candidate.precision not in differing)
    test = making.data.split("test")
    labelled = test if computes and len(test) else None
    measured = measure_candidates(folder, agreeing, labelled, settings, pictures, taught or "fp32", timed=not elsewhere)
    choice = choose(
        tuple(_as_made(found, made) for found in measured),
        reference.accuracy if labelled else None,
        making.recipe.build.max_accuracy_loss,
        making.recipe.build.prefer,
    )
    refused = tuple(
        msgspec.structs.replace(candidate, verdict="refused: answers otherwise than the net, see parity")
        for _, candidate in made
        if candidate.precision in differing
    )
    sentence = (
        choice.sentence if computes else f"{choice.chosen}: {making.target} computes nothing, timing alone counts"
    )
    return Measured((*choice.candidates, *refused), choice.chosen, sentence, parity)


def _named(target: str, elsewhere: bool) -> str:
    """For the table: elsewhere, ONNX Runtime answered for the graph that the engine is built of."""
    return f"{target}'s graph" if elsewhere else target


def _as_made(found: Candidate, made: Made) -> Candidate:
    """The candidate itself, with what was measured of it or of what stood in for it."""
    own = next(candidate for _, candidate in made if candidate.precision == found.precision)
    return msgspec.structs.replace(
        own,
        accuracy=found.accuracy,
        latency_ms=found.latency_ms,
        verdict=found.verdict,
        options={**own.options, **found.options},
    )


def _learned(making: Making, made: Made) -> Precision | None:
    """The one precision of a net that learned its quantization in training."""
    return made[0][1].precision if learned(making) is not None else None


def gathered(made: Made, folder: Path) -> Path:
    """All candidates' files in one folder, as they will lie in the bundle; a shared file must be the same file."""
    rmtree(folder, ignore_errors=True)  # an interrupted run may have left half a file there
    folder.mkdir(parents=True)
    for source, candidate in made:
        for name in candidate.files:
            if (folder / name).exists() and digest_of(folder / name) != digest_of(source / name):
                raise BackendError(f"{candidate.precision}: {name} differs from another candidate's file of that name")
            copy2(source / name, folder / name)
    return folder


def engine_answers(
    folder: Path, candidate: Candidate, settings: Settings, pictures: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """The engine's answers [N, classes], in batches of several sizes: each may be computed otherwise."""
    with open_engine(folder, candidate, settings) as engine:
        name, output = engine.inputs[0].name, engine.outputs[0].name
        parts = np.split(pictures, [at for at in BATCH_ENDS if at < len(pictures)])
        return np.concatenate([engine.infer({name: part})[output] for part in parts])


def _answered(
    folder: Path, made: Made, settings: Settings, pictures: NDArray[np.uint8]
) -> dict[Precision, NDArray[np.float32]]:
    """Each precision's answers; one that this machine cannot run is left out, and told so where it is measured."""
    found: dict[Precision, NDArray[np.float32]] = {}
    for _, candidate in made:
        with suppress(DeviceError):
            found[candidate.precision] = engine_answers(folder, candidate, settings, pictures)
    return found
