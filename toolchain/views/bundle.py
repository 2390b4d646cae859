"""Records as text on stdout: tables and pages, and the last line of JSON.

Computes nothing but shares and ratios.
"""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from toolchain.records.bundle import Bundle
from toolchain.records.certificate import SaturationOutcome
from toolchain.records.manifest import Manifest
from toolchain.records.report import SAMPLES_FOR, Report
from toolchain.records.saturation import WIDE_SUMS
from toolchain.tables import Draw, table
from toolchain.views.certificate import validity_cell
from toolchain.views.steps import steps_page

if TYPE_CHECKING:
    from deploy.ledger.history import HistoryRow

MB = 1e6
NOT_KNOWN = "not known"


def as_json(record: object) -> str:
    """One line; what a terminal might take for a command is escaped, which means the same in JSON."""
    text = msgspec.json.encode(record).decode()
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else json.dumps(letter)[1:-1]


def percent(share: float | None) -> str | None:
    return None if share is None else f"{share:.2%}"


def accuracy_cell(share: float | None, manifest: Manifest) -> str | None:
    """A candidate's accuracy; a release without labelled images says that nobody knows it."""
    return percent(share) or (NOT_KNOWN if manifest.accuracy is None else None)


def accuracy_line(manifest: Manifest) -> str:
    """The release's accuracy in a few words."""
    known = manifest.accuracy
    if known is not None:
        what = "" if known.measure == "top-1" else f"{known.measure} "
        precision = known.mean_average_precision
        ranked = "" if precision is None else f"; mAP {precision:.2%} in fp32"
        return f"{what}{known.chosen:.2%} of {known.images:,} test images ({known.fp32:.2%} in fp32{ranked})"
    reason = "" if manifest.data.certify_indices else ": built without labelled images, so only numerics were compared"
    return f"{NOT_KNOWN}{reason}"


def steps_table(manifest: Manifest) -> str:
    """The model after each step; then each step's predicted and measured effect."""
    rows = [
        (
            *(step.step, step.parameters, step.macs, step.sparsity, step.size_bytes / MB),
            *(percent(step.accuracy_validate), step.seconds),
        )
        for step in manifest.steps
    ]
    columns = {
        "step": "",
        "parameters": ",",
        "MACs": ",",
        "zeros": ".0%",
        "fp32 weights, MB": ".2f",
        f"validation {manifest.measure}": "",
        "time, s": ".1f",
    }
    if all(step.measured_speedup is None for step in manifest.steps):
        return table(rows, columns)
    return f"{table(rows, columns)}\n\n{steps_page(manifest.steps, manifest.target, manifest.measure)}"


def candidates_table(manifest: Manifest, draw: Draw = table) -> str:
    """Every precision that was built, its figures on this machine, and why it serves or does not."""
    rows = [
        (
            candidate.precision,
            accuracy_cell(candidate.accuracy, manifest),
            candidate.latency_ms,
            candidate.size_bytes / MB,
            candidate.verdict,
        )
        for candidate in manifest.candidates
    ]
    accuracy = f"test {manifest.measure}"
    return draw(rows, {manifest.target: "", accuracy: "", "p50, ms (batch 1)": ".3f", "file, MB": ".2f", "verdict": ""})


def parity_table(manifest: Manifest, draw: Draw = table) -> str:
    """Do two ways of running the model agree?"""
    rows = [
        (
            f"{row.candidate} against {row.reference}",
            row.max_abs,
            row.relative,
            percent(row.top1_agreement),
            row.worst_index,
            "agrees" if row.passed else "DIFFERS",
        )
        for row in manifest.parity
    ]
    same = "same top-1" if manifest.measure == "top-1" else "same labels"
    return draw(rows, {"outputs": "", "max |diff|": ".2e", "relative": ".2e", same: "", "worst image": "d", "": ""})


def report_table(report: Report) -> str:
    """Percentiles only where there are enough samples (MLPerf's counts)."""
    rows = [
        (
            scenario.scenario,
            len(scenario.latencies_ms),
            *(scenario.percentile_ms(percent) for percent in SAMPLES_FOR),
            scenario.throughput_per_s,
            validity_cell(scenario.valid, scenario.note),
        )
        for scenario in report.scenarios
    ]
    percentiles = {f"p{percent:g}, ms": ".3f" for percent in SAMPLES_FOR}
    return table(rows, {"LoadGen": "", "samples": "d", **percentiles, "images/s": ",.0f", "": ""})


def report_summary(report: Report) -> dict[str, object]:
    """The report without its raw latencies (the ledger keeps those)."""
    return {
        "bundle": report.bundle,
        "release": report.release,
        "precision": report.precision,
        "threads": report.threads,
        "peak_memory_bytes": report.peak_memory_bytes,
        "throttled_periods": report.throttled_periods,
        "scenarios": {
            scenario.scenario: {
                **{f"p{percent:g}_ms": scenario.percentile_ms(percent) for percent in SAMPLES_FOR},
                "throughput_per_s": scenario.throughput_per_s,
                "valid": scenario.valid,
            }
            for scenario in report.scenarios
        },
    }


def bundle_summary(bundle: Bundle) -> dict[str, object]:
    """The last line of `build`."""
    manifest = bundle.manifest
    return {
        "bundle": str(bundle.folder),
        "digest": bundle.digest,
        "release": manifest.release,
        "target": manifest.target,
        "precision": manifest.chosen,
        "choice": manifest.choice,
        "accuracy_fp32": manifest.accuracy.fp32 if manifest.accuracy else None,
        "accuracy": manifest.accuracy.chosen if manifest.accuracy else None,
        "latency_ms": manifest.serving.latency_ms,
        "size_bytes": manifest.serving.size_bytes,
    }


def manifest_facts(manifest: Manifest, draw: Draw = table) -> str:
    """A release's properties."""
    data = manifest.data
    shape = manifest.preprocessing
    facts = (
        ("release", f"{manifest.name} {manifest.release} for {manifest.target}"),
        ("model", manifest.model),
        ("serves", manifest.choice),
        ("input", f"{manifest.inputs[0].name}: {manifest.inputs[0]}, {shape.height}x{shape.width}x{shape.channels}"),
        ("output", f"{manifest.outputs[0].name}: {manifest.outputs[0]}"),
        ("accuracy", accuracy_line(manifest)),
        ("labels", shorten_labels(manifest.labels)),
        ("data", f"{data.name} ({data.source}, sha256 {data.sha256[:12]})"),
        ("calibrated on", f"{len(data.calibration_indices)} images of {data.calibration_name or 'nothing'}"),
        ("certified on", f"{len(data.certify_indices)} held-out images"),
        ("int8 is exact on", saturation_cell(manifest)),
        ("needs", f"{manifest.needs.architecture} {' '.join(manifest.needs.cpu_isa)}"),
        ("tools", ", ".join(f"{name} {version}" for name, version in manifest.tools.items() if version)),
    )
    return draw(facts, ("bundle", ""))


def saturation_cell(manifest: Manifest) -> str:
    """On which devices the int8 candidate computes what was built."""
    known = [one for one in manifest.candidates if one.saturation is not None]
    if known and all(one.verdict.startswith("refused") for one in known):
        return "no CPU: it was refused where it was built, see its verdict"
    predicted = next((one.saturation for one in known), None)
    if predicted is None:
        return "not predicted: no int8 for a CPU, or built before there were predictions"
    if predicted.is_excluded:
        return f"every CPU: its sums cannot exceed 16 bits in any of {predicted.layers} layers"
    if not predicted.saturating:
        return f"every CPU, as far as {predicted.images} images show; its weights do not exclude saturation"
    wide = ", ".join(WIDE_SUMS)
    return f"CPUs with {wide}, and ARM; elsewhere not offered: its sums stop in {predicted.describe()}"


def saturation_line(outcomes: Sequence[SaturationOutcome]) -> str:
    """How often devices without VNNI confirmed what the build predicted of int8."""
    hits = sum(one.is_hit for one in outcomes)
    wrong = sorted({one.precision for one in outcomes if not one.is_hit})
    missed = f"; wrong for: {', '.join(wrong)}" if wrong else ""
    return f"saturation of int8 without VNNI: {hits} of {len(outcomes)} predictions confirmed by certificates{missed}"


def manifest_page(manifest: Manifest) -> str:
    """A release on one page."""
    parts = [manifest_facts(manifest)]
    parts += [part(manifest) for part in (steps_table, candidates_table, parity_table)]
    return "\n\n".join(parts)


def shorten_labels(labels: tuple[str, ...], most: int = 10) -> str:
    shown = ", ".join(labels[:most])
    return f"{len(labels)}: {shown}" + (", ..." if len(labels) > most else "")


def history_table(rows: "Sequence[HistoryRow]", draw: Draw = table) -> str:
    """The ledger's releases by device, newest first."""
    shown = [
        (
            f"{row.name} {row.release}",
            f"{row.target} {row.precision}",
            short_device(row.device),
            percent(row.accuracy),
            row.p50_ms,
            row.throughput_per_s,
            None if row.size_bytes is None else row.size_bytes / MB,
            None if row.image_bytes is None else row.image_bytes / MB,
            row.at[:10],
        )
        for row in rows
    ]
    columns = {
        "release": "",
        "target": "",
        "device": "",
        "accuracy": ".2%",
        "p50, ms": ".3f",
        "images/s": ",.0f",
        "MB": ".2f",
        "image, MB": ".0f",
        "on": "",
    }
    return draw(shown, columns)


def short_device(label: str | None) -> str:
    """A processor's name without trademarks and filler words."""
    words = (label or "not measured").replace("(R)", "").replace("(TM)", "").replace(" Processor", "")
    return words.replace(" CPU ", " ")
