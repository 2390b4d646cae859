"""What a release changed against the one before it, from their two manifests. Pure; measures nothing."""

from collections.abc import Iterator
from difflib import unified_diff

import msgspec

from toolchain.records.manifest import Manifest, StepRecord
from toolchain.views.bundle import MB, NOT_KNOWN, percent, shorten_labels

ChangeRow = tuple[str, str, str, str]  # what, before, now, by how much


def compare_releases(before: Manifest, now: Manifest) -> tuple[ChangeRow, ...]:
    """A row for each property that differs; the figures first, the causes after them."""
    rows = (*_figures(before, now), *_causes(before, now), *_tools(before, now))
    return tuple(row for row in rows if row[1] != row[2])


def diff_recipes(before: Manifest, now: Manifest) -> str:
    """The recipes' differing lines with one line around them, '' where they are equal."""
    names = (f"{before.name} {before.release}", f"{now.name} {now.release}")
    return "\n".join(unified_diff(before.recipe.splitlines(), now.recipe.splitlines(), *names, n=1, lineterm=""))


def _figures(before: Manifest, now: Manifest) -> Iterator[ChangeRow]:
    yield "serves", before.chosen, now.chosen, ""
    old, new = (one.accuracy.chosen if one.accuracy else None for one in (before, now))
    points = f"{100 * (new - old):+.2f} points" if old is not None and new is not None else ""
    yield "accuracy", percent(old) or NOT_KNOWN, percent(new) or NOT_KNOWN, points
    yield ("p50 on the build machine, ms", *_pair(before.serving.latency_ms, now.serving.latency_ms, ".3f"))
    yield ("file, MB", *_pair(before.serving.size_bytes / MB, now.serving.size_bytes / MB, ".2f"))
    yield ("parameters", *_pair(_last(before, "parameters"), _last(now, "parameters"), ",.0f"))
    yield ("MACs", *_pair(_last(before, "macs"), _last(now, "macs"), ",.0f"))


def _pair(before: float | None, now: float | None, form: str) -> tuple[str, str, str]:
    texts = [NOT_KNOWN if value is None else format(value, form) for value in (before, now)]
    return texts[0], texts[1], f"{100 * (now / before - 1):+.1f} %" if before and now else ""


def _last(manifest: Manifest, field: str) -> float | None:
    return float(getattr(manifest.steps[-1], field)) if manifest.steps else None


def _causes(before: Manifest, now: Manifest) -> Iterator[ChangeRow]:
    yield "model", before.model, now.model, ""
    yield "steps", _steps(before.steps), _steps(now.steps), ""
    yield "data", _data(before), _data(now), ""
    yield "labels", shorten_labels(before.labels), shorten_labels(now.labels), _label_changes(before, now)
    old, new = (msgspec.to_builtins(one.preprocessing) for one in (before, now))
    for key in sorted(old.keys() | new.keys()):
        yield f"input, {key}", str(old.get(key, "")), str(new.get(key, "")), ""
    yield "output", before.output.activation, now.output.activation, ""
    yield "calibrated on", _calibration(before), _calibration(now), ""
    yield "instructions that it needs", " ".join(before.needs.cpu_isa), " ".join(now.needs.cpu_isa), ""


def _steps(steps: tuple[StepRecord, ...]) -> str:
    shown = (
        " ".join([step.step, *(f"{key}={value}" for key, value in sorted(step.options.items()))]) for step in steps
    )
    return "; ".join(shown) or "none"


def _data(manifest: Manifest) -> str:
    return f"{manifest.data.name} ({manifest.data.sha256[:12]})"


def _calibration(manifest: Manifest) -> str:
    data = manifest.data
    return f"{len(data.calibration_indices)} images of {data.calibration_name or 'nothing'}"


def _label_changes(before: Manifest, now: Manifest) -> str:
    gone, new = set(before.labels) - set(now.labels), set(now.labels) - set(before.labels)
    if not gone and not new:
        return "another order" if before.labels != now.labels else ""
    return ", ".join([*(f"+{name}" for name in sorted(new)), *(f"-{name}" for name in sorted(gone))])


def _tools(before: Manifest, now: Manifest) -> Iterator[ChangeRow]:
    for name in sorted(before.tools.keys() | now.tools.keys()):
        yield name, before.tools.get(name, "") or "none", now.tools.get(name, "") or "none", ""
