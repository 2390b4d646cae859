"""What a build tells a tracker, in no tracker's own form: parameters, curves, final figures, files.

Read from the bundle's manifest alone, so that it is the same whether the stages ran now or were kept.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Manifest, StepRecord

KEY = re.compile(r"[^\w./ -]")  # what trackers do not take in a name
STEP_FIGURES = (
    *("parameters", "macs", "size_bytes", "sparsity", "seconds"),
    *("accuracy_validate", "accuracy", "latency_ms", "measured_speedup"),
)


class TrackedCurve(msgspec.Struct, frozen=True):
    """points: (epoch or number of the step, value)."""

    name: str
    points: tuple[tuple[int, float], ...]


class TrackedRun(msgspec.Struct, frozen=True):
    """project: the model's name; name: of this build; parameters: the recipe's keys; figures: what the build ended
    with; recipe: as it is written; bundle, report: the files."""

    project: str
    name: str
    tags: dict[str, str]
    parameters: dict[str, str]
    curves: tuple[TrackedCurve, ...]
    figures: dict[str, float]
    recipe: str
    bundle: Path
    report: Path


def tracked_run(bundle: Bundle, report: Path, measured: Mapping[str, object] | None = None) -> TrackedRun:
    """report: the page; measured: further figures, of a container say; what is no number is left out."""
    manifest = bundle.manifest
    served = {f"served/{key}": value for key, value in (measured or {}).items()}
    tags = {"release": manifest.release, "target": manifest.target, "bundle": bundle.digest, "choice": manifest.choice}
    return TrackedRun(
        project=manifest.name,
        name=f"{manifest.name}-{manifest.release}-{manifest.target}",
        tags=tags,
        parameters=dict(_flatten(tomllib.loads(manifest.recipe))),
        curves=(*_training_curves(manifest.steps), *_step_curves(manifest.steps)),
        figures=_numbers({**_final_figures(manifest), **served}),
        recipe=manifest.recipe,
        bundle=bundle.folder,
        report=report,
    )


def _flatten(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """`step.1.finetune.epochs` of nested tables and lists; steps count from 1, as messages do."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for number, inner in enumerate(value, 1):
            yield from _flatten(inner, f"{place}.{number}")
    else:
        yield KEY.sub("_", place), str(value)


def _training_curves(steps: Sequence[StepRecord]) -> Iterator[TrackedCurve]:
    """Of each step that trains: what each of its epochs recorded."""
    for number, step in enumerate(steps):
        for key in dict.fromkeys(key for entry in step.history for key in entry if key != "epoch"):
            points = tuple(
                (round(entry.get("epoch", at)), entry[key]) for at, entry in enumerate(step.history, 1) if key in entry
            )
            yield TrackedCurve(f"train/{number}-{step.step}/{key}", points)


def _step_curves(steps: Sequence[StepRecord]) -> Iterator[TrackedCurve]:
    """The model after each step; 0 is the model as it came."""
    for key in STEP_FIGURES:
        values = [(number, getattr(step, key)) for number, step in enumerate(steps)]
        if points := tuple((number, float(value)) for number, value in values if value is not None):
            yield TrackedCurve(f"steps/{key}", points)


def _final_figures(manifest: Manifest) -> dict[str, object]:
    serving = manifest.serving
    found: dict[str, object] = {
        "accuracy": serving.accuracy,
        "accuracy_fp32": manifest.accuracy.fp32 if manifest.accuracy else None,
        "latency_ms": serving.latency_ms,
        "size_bytes": serving.size_bytes,
    }
    for each in manifest.candidates:
        figures = {"accuracy": each.accuracy, "latency_ms": each.latency_ms, "size_bytes": each.size_bytes}
        found |= {f"candidates/{each.precision}/{key}": value for key, value in figures.items()}
    return found


def _numbers(found: Mapping[str, object]) -> dict[str, float]:
    return {
        key: float(value)
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
