"""The pages that commands print at the end of a workflow, composed of the views of its records."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toolchain.records.bundle import Bundle
from toolchain.records.manifest import Manifest, StepRecord
from toolchain.tables import add_title, table
from toolchain.views.bundle import MB, accuracy_cell

if TYPE_CHECKING:
    from toolchain.workflows.deploy import Outcome, Unrun
    from toolchain.workflows.doctor import MachineFinding


def findings_page(findings: "Sequence[MachineFinding]") -> str:
    """The findings of `doctor`."""
    return table(
        [(finding.name, finding.state, finding.found, finding.advice) for finding in findings],
        ("", "state", "found", "what to do"),
    )


def shorten_path(path: Path) -> Path:
    """From here, where it is below the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def built_page(bundle: Bundle, report: Path) -> str:
    """The result of a build on a screen: what was chosen and why, and what comes next. The steps, parity and all else
    are in the `report`."""
    manifest = bundle.manifest
    worst = next((each for each in manifest.parity if not each.passed), None)
    agree = f"{len(manifest.parity)} comparisons of outputs agree"
    parity = f"parity: {agree if worst is None else f'{worst.candidate} differs from {worst.reference}'}"
    return "\n\n".join(
        [
            add_title("Candidates: what was built, and why one is to serve", _choice(manifest, manifest.chosen)),
            "\n".join(_step_lines(manifest.steps)) or "steps: none",
            f"{parity}\nbundle: {shorten_path(bundle.folder)}; an image of it: toolchain image "
            f"{shorten_path(bundle.folder)}\nreport: {report}",
        ]
    )


def _step_lines(steps: Sequence[StepRecord]) -> Iterator[str]:
    """One line a step, without the model as it came."""
    for number, step in enumerate(steps[1:], 1):
        speed = "" if step.measured_speedup is None else f": {step.measured_speedup:.2f} times the original's speed"
        yield f"step {number}, {step.step}{speed}{f'; {step.verdict}' if step.verdict else ''}"


def outcome_page(outcome: "Outcome", report: Path) -> str:
    """The result of `deploy` on a screen: what was chosen and why, before and after, the certificate, how to call it.
    All else is in the `report`, whose path is the last line. Each net has one latency here, from one run."""
    manifest, summary = outcome.bundle.manifest, outcome.summary
    parts = [
        add_title("Candidates: what was built, and why one serves", _choice(manifest, summary.precision)),
        add_title(
            "Before and after: in turn in one run, one image at a time, " + _plural(outcome.report.threads, "thread"),
            _before_and_after(outcome),
        ),
        add_title("Certificate: the container on this device", "\n".join(_certificate_lines(outcome))),
        f"serving {manifest.name} {manifest.release} on {summary.url}; try it:\n  {outcome.curl}",
        f"image: {summary.image}, {summary.image_bytes / MB:.0f} MB; report: {report}",
    ]
    return "\n\n".join(parts)


def _choice(manifest: Manifest, served: str) -> str:
    fp32 = next((each.latency_ms for each in manifest.candidates if each.precision == "fp32"), None)
    rows = [
        (
            f"{each.precision}{', serves' if each.precision == served else ''}",
            accuracy_cell(each.accuracy, manifest),
            _ratio(fp32, each.latency_ms),
            each.size_bytes / MB,
            "" if each.verdict.startswith(("chosen", "slower than", "no faster than")) else each.verdict,
        )
        for each in manifest.candidates
    ]
    columns = {
        manifest.target: "",
        f"test {manifest.measure}": "",
        "times fp32's speed": ".2f",
        "file, MB": ".2f",
        "": "",
    }
    why = manifest.choice.partition("; ")[2] or manifest.choice
    if served != manifest.chosen:
        why = f"the build chose {manifest.chosen}; on this device {served} was clearly faster"
    return f"{table(rows, columns)}\n{served}: {why}"


def _before_and_after(outcome: "Outcome") -> str:
    manifest, summary = outcome.bundle.manifest, outcome.summary
    fp32 = next((candidate for candidate in manifest.candidates if candidate.precision == "fp32"), None)
    before = manifest.accuracy.fp32 if manifest.accuracy else None
    openvino = _ratio(summary.latency_ms_torch_fp32, summary.latency_ms_openvino_fp32)
    rows = [
        (
            "before: PyTorch fp32, eager",
            accuracy_cell(before, manifest),
            summary.latency_ms_torch_fp32,
            1.0,
            summary.size_bytes_fp32,
        ),
        (
            "OpenVINO fp32",
            accuracy_cell(fp32.accuracy, manifest) if fp32 else None,
            summary.latency_ms_openvino_fp32,
            openvino,
            fp32.size_bytes if fp32 else None,
        ),
        (
            f"after: container, {manifest.target} {summary.precision}",
            accuracy_cell(summary.accuracy, manifest),
            summary.latency_ms,
            summary.speedup,
            summary.size_bytes,
        ),
    ]
    shown = [(*row[:4], None if row[4] is None else row[4] / MB) for row in rows if row[2] is not None]
    columns = {
        "": "",
        f"test {manifest.measure}": "",
        "p50, ms (batch 1)": ".3f",
        "times faster": ".2f",
        "model, MB": ".2f",
    }
    return table(shown, columns)


def _certificate_lines(outcome: "Outcome") -> Iterator[str]:
    certificate, summary = outcome.certificate, outcome.summary
    passed = sum(check.passed for check in certificate.checks)
    accuracy = next((check.found for check in certificate.checks if check.name == "accuracy"), "accuracy not known")
    yield f"{passed} of {len(certificate.checks)} checks passed; held-out images: {accuracy}"
    started = "" if summary.cold_start_s is None else f"first answer {summary.cold_start_s:.2f} s after its start; "
    memory = f"peak memory {summary.peak_memory_bytes / MB:,.0f} MB"
    yield f"{summary.offline_per_s:,.0f} images/s in batches; {started}{memory}"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def unrun_page(outcome: "Unrun", report: Path) -> str:
    """The result of `deploy` for a device that is not in this machine, and what was not run. All else is in the
    `report`."""
    manifest, summary = outcome.bundle.manifest, outcome.summary
    checks = [("passed" if check.passed else "FAILED", check.name, check.found) for check in outcome.selfcheck.checks]
    reasons = "\n".join(f"  {what}" for what in summary.not_run)
    lacking, _, advice = summary.lacking.partition(": ")
    return "\n\n".join(
        [
            add_title("Candidates: what was built, and why one is to serve", _choice(manifest, manifest.chosen)),
            table(checks, {"the image's self-check": "", "": "", "found": ""}),
            f"NOT RUN: {lacking}\n{reasons}\nto run them: {advice}",
            f"report: {report}\nbuilt: {summary.image} ({summary.image_bytes / MB:.0f} MB); on a machine with the GPU: "
            f"docker run --gpus=all -p 8080:8080 -v edge-{manifest.name}-state:/state {summary.image}",
        ]
    )


def _ratio(slow: float | None, fast: float | None) -> float | None:
    return slow / fast if slow and fast else None
