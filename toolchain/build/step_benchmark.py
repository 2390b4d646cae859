"""Models on the target's engine: how long one image takes, how many are right, what is held in memory and on disk.

Measures what it is handed, all of it in turn in one run. Knows nothing of steps, nor of what a figure means
(step_verdict.py does).
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.runtime.device.probe import fingerprint
from deploy.runtime.engines import Engine, Settings, open_engine
from toolchain.backends import backend
from toolchain.build.peak_memory import peak_memory_of
from toolchain.compress.distributed import distributed_context
from toolchain.errors import DeviceError
from toolchain.job.latency import caller, decisions_of, in_turn_ms
from toolchain.job.samples import trial_images
from toolchain.job.stage import Stage, tool_versions
from toolchain.records.output import OutputKind, match_decisions

if TYPE_CHECKING:
    from torch import nn

    from toolchain.build.artifacts import Artifact
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

# an artifact, the job that says for what target, data and threads it is, and what its outputs say
Subject = tuple["BuildJob", "Artifact", OutputKind]


class StepFigures(msgspec.Struct, frozen=True):
    """What was measured of an artifact; None: it was not, `absent` says why. accuracy: share of the test split."""

    latency_ms: float | None = None
    accuracy: float | None = None
    artifact_bytes: int | None = None
    memory_bytes: int | None = None
    absent: str = ""


@dataclass(frozen=True)
class LatencyMeter:
    """Times torch models on the job's target, for steps that choose by measured latency."""

    job: "BuildJob"

    @property
    def inputs(self) -> dict[str, object]:
        """What a measured latency depends on, besides the model."""
        return {
            "target": self.job.target,
            "threads": self.job.threads,
            "device": msgspec.to_builtins(fingerprint()),
            "engines": tool_versions("openvino", "onnxruntime"),
        }

    def __call__(self, modules: "Sequence[nn.Module]") -> tuple[float, ...]:
        """Median milliseconds of one image for each of `modules`, as the first process measures them."""
        return distributed_context().run_on_first(lambda: _fp32_latencies(self.job, modules))


def measure_all(
    cache: "StageCache", title: str, subjects: Mapping[str, Subject], known: Mapping[str, StepFigures]
) -> dict[str, StepFigures]:
    """Everything of each subject, by its name; a kept stage. known: figures that need not be measured again; a latency
    only where those of all are known, since only latencies of one run may be compared."""

    def make(_: Path, __: Path) -> dict[str, StepFigures]:
        return _measure(subjects, known)

    jobs = [job for job, _, _ in subjects.values()]
    inputs = {
        "artifacts": {name: artifact.key for name, (_, artifact, _) in subjects.items()},
        "known": dict(known),
        "data": [job.data.sha256 for job in jobs],
        "each_threads": [job.threads for job in jobs],
        **(LatencyMeter(jobs[0]).inputs if jobs else {}),
    }
    return cache.run(Stage("step-figures", title, dict[str, StepFigures], inputs, make)).record


def _fp32_latencies(job: "BuildJob", modules: "Sequence[nn.Module]") -> tuple[float, ...]:
    """In fp32, in turn in one run. ExportError, BackendError and DeviceError for a module that cannot run there, or
    where no such device is here."""
    from toolchain.export import onnx_from_torch

    with tempfile.TemporaryDirectory(prefix="latency.") as temporary, ExitStack() as stack:
        callers = {}
        for number, module in enumerate(modules):
            folder = Path(temporary) / str(number)
            onnx = onnx_from_torch(module, job.recipe.input, folder / "model.onnx")
            options = job.recipe.target.get(job.target, {})
            candidate = backend(job.target).build(onnx, folder, "fp32", None, options=options)
            if backend(job.target).stand_in(candidate) is not None:
                raise DeviceError(f"latency on target {job.target} was asked for, and no such device is here")
            engine = stack.enter_context(open_engine(folder, candidate, Settings(job.threads)))
            callers[str(number)] = caller(engine, trial_images(job.data))
        medians = in_turn_ms(callers) if callers else {}
    return tuple(medians[str(number)] for number in range(len(modules)))


def _measure(subjects: Mapping[str, Subject], known: Mapping[str, StepFigures]) -> dict[str, StepFigures]:
    timed = all(name in known and known[name].latency_ms is not None for name in subjects)
    figures = {name: _size(job, artifact) for name, (job, artifact, _) in subjects.items()}
    able = {name: subjects[name] for name, figure in figures.items() if not figure.absent}
    here = {name: subject for name, subject in able.items() if not _runs_elsewhere(*subject[:2])}
    latency = {name: known[name].latency_ms for name in able} if timed else _latencies(here)
    for name, (job, artifact, output) in able.items():
        accuracy = known[name].accuracy if name in known else None
        memory = None
        if name in here:
            memory = peak_memory_of(artifact.folder, artifact.record, job.threads, job.recipe.input.shape)
        figures[name] = msgspec.structs.replace(
            figures[name],
            latency_ms=latency.get(name),
            accuracy=accuracy if accuracy is not None else _accuracy(job, artifact, output),
            memory_bytes=memory,
        )
    return figures


def _runs_elsewhere(job: "BuildJob", artifact: "Artifact") -> bool:
    """Whether it is for a device that is not here: another engine answers, whose speed and memory say nothing."""
    return backend(job.target).stand_in(artifact.record) is not None


def _size(job: "BuildJob", artifact: "Artifact") -> StepFigures:
    """Its bytes on disk, and why it cannot run here if it cannot."""
    size = StepFigures(artifact_bytes=artifact.record.size_bytes)
    try:
        with _open(job, artifact):
            return size
    except DeviceError as error:
        return msgspec.structs.replace(size, absent=f"cannot run here: {error}")


def _latencies(subjects: Mapping[str, Subject]) -> Mapping[str, float | None]:
    with ExitStack() as stack:
        return in_turn_ms(
            {
                name: caller(stack.enter_context(_open(job, artifact)), trial_images(job.data))
                for name, (job, artifact, _) in subjects.items()
            }
        )


def _accuracy(job: "BuildJob", artifact: "Artifact", output: OutputKind) -> float | None:
    """None without labelled test images, and for other classes than the data's (a head that is still to be
    replaced)."""
    test = job.data.split("test")
    if not len(test) or not backend(job.target).COMPUTES:
        return None
    with _open(job, artifact, "throughput") as engine:
        if not output.fits(engine.outputs[0].shape[-1] or 0, len(job.data.classes)):
            return None
        decisions = decisions_of(engine, test.images, f"{artifact.key}: test images", output)
        return float(match_decisions(decisions, test.labels).mean())


def _open(job: "BuildJob", artifact: "Artifact", hint: str = "latency") -> Engine:
    candidate = backend(job.target).stand_in(artifact.record) or artifact.record
    settings = Settings(job.threads, "throughput" if hint == "throughput" else "latency")
    return open_engine(artifact.folder, candidate, settings)
