"""Nets on the target's engine: how long one picture takes, how many are right, what is held in memory and on disk.

Measures what it is handed, all of it in turn in one run. Knows nothing of steps, nor of what a figure means (paying.py
does).
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.runtime.engines import Engine, Settings, open_engine
from toolchain.backends import backend
from toolchain.build.peak_memory import footprint_bytes
from toolchain.errors import DeviceError
from toolchain.job.job import Making
from toolchain.job.latency import caller, in_turn_ms, top1_of
from toolchain.job.samples import trial_pictures
from toolchain.records.manifest import Candidate

if TYPE_CHECKING:
    from torch import nn

Artifact = tuple[Path, Candidate]  # a folder, and the candidate whose files lie in it


class Figures(msgspec.Struct, frozen=True):
    """What was measured of an artifact; None: it was not, `absent` says why. accuracy: share of the test part."""

    latency_ms: float | None = None
    accuracy: float | None = None
    artifact_bytes: int | None = None
    memory_bytes: int | None = None
    absent: str = ""


def latencies(making: Making, modules: "Sequence[nn.Module]") -> tuple[float, ...]:
    """Median milliseconds of one picture for each of `modules`, in fp32 on the target's engine, in turn in one run.
    ExportError, BackendError and DeviceError for one that cannot run there, or where no such device is here."""
    from toolchain.export import onnx_from_torch

    with tempfile.TemporaryDirectory(prefix="trial.") as temporary, ExitStack() as stack:
        callers = {}
        for number, module in enumerate(modules):
            folder = Path(temporary) / str(number)
            onnx = onnx_from_torch(module, making.recipe.input, folder / "model.onnx")
            options = making.recipe.target.get(making.target, {})
            candidate = backend(making.target).build(onnx, folder, "fp32", None, options=options)
            if _elsewhere(making, (folder, candidate)):
                raise DeviceError(f"latency on target {making.target} was asked for, and no such device is here")
            engine = stack.enter_context(open_engine(folder, candidate, Settings(making.threads)))
            callers[str(number)] = caller(engine, trial_pictures(making.data))
        found = in_turn_ms(callers) if callers else {}
    return tuple(found[str(number)] for number in range(len(modules)))


def figures(
    tried: Mapping[str, tuple[Making, Artifact]], known: Mapping[str, Figures] | None = None
) -> dict[str, Figures]:
    """Everything of each artifact, by its name. known: figures that need not be measured again; a latency only where
    those of all are known, since only latencies of one run may be compared."""
    known = known or {}
    timed = all(name in known and known[name].latency_ms is not None for name in tried)
    found = {name: _unmeasured(*one) for name, one in tried.items()}
    able = {name: tried[name] for name, one in found.items() if not one.absent}
    here = {name: one for name, one in able.items() if not _elsewhere(*one)}
    latency = {name: known[name].latency_ms for name in able} if timed else _in_turn(here)
    for name, (making, artifact) in able.items():
        accuracy = known[name].accuracy if name in known else None
        memory = footprint_bytes(*artifact, making.threads, making.recipe.input.shape) if name in here else None
        found[name] = msgspec.structs.replace(
            found[name],
            latency_ms=latency.get(name),
            accuracy=accuracy if accuracy is not None else _accuracy(making, artifact),
            memory_bytes=memory,
        )
    return found


def _elsewhere(making: Making, artifact: Artifact) -> bool:
    """Whether it is for a device that is not here: another engine answers, whose speed and memory say nothing."""
    return backend(making.target).stand_in(artifact[1]) is not None


def _unmeasured(making: Making, artifact: Artifact) -> Figures:
    """Its bytes on disk, and why it cannot run here if it cannot."""
    bare = Figures(artifact_bytes=artifact[1].size_bytes)
    try:
        with _opened(making, artifact):
            return bare
    except DeviceError as error:
        return msgspec.structs.replace(bare, absent=f"cannot run here: {error}")


def _in_turn(tried: Mapping[str, tuple[Making, Artifact]]) -> Mapping[str, float | None]:
    with ExitStack() as stack:
        return in_turn_ms(
            {
                name: caller(stack.enter_context(_opened(making, artifact)), trial_pictures(making.data))
                for name, (making, artifact) in tried.items()
            }
        )


def _accuracy(making: Making, artifact: Artifact) -> float | None:
    """None without labelled test pictures, and for other classes than the data's (a head that is still to be
    replaced)."""
    test = making.data.split("test")
    if not len(test) or not backend(making.target).COMPUTES:
        return None
    with _opened(making, artifact, "throughput") as engine:
        if engine.outputs[0].shape[-1] != len(making.data.classes):
            return None
        return float((top1_of(engine, test.images, f"{artifact[0].name}: test pictures") == test.labels).mean())


def _opened(making: Making, artifact: Artifact, hint: str = "latency") -> Engine:
    folder, candidate = artifact
    answering = backend(making.target).stand_in(candidate) or candidate
    return open_engine(folder, answering, Settings(making.threads, "throughput" if hint == "throughput" else "latency"))
