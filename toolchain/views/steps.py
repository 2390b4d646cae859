"""The step report as text: each step's predicted effect next to the measured one. Computes nothing."""

from collections.abc import Sequence

from toolchain.records.manifest import StepRecord
from toolchain.tables import Draw, table

MB = 1e6
SPEED = {"predicted": ".2f", "measured": ".2f", "p50, ms": ".3f"}
SIZE = {"file, MB": ".2f", "memory, MB": ".0f", "verdict": ""}


def steps_page(steps: Sequence[StepRecord], target: str, measure: str, draw: Draw = table) -> str:
    """Speed-ups (predicted from MACs, bits and zeros; measured) are relative to the original model. Below the table:
    the steps that do not pay, and why. measure: what the accuracy is called."""
    rows = [(number, *_cells(step)) for number, step in enumerate(steps)]
    drawn = draw(rows, {target: "d", "step": "", "in": "", **SPEED, measure: ".2%", **SIZE})
    return "\n".join([drawn, *reasons(steps, "")])


def compared_page(recipes: Sequence[tuple[str, Sequence[StepRecord]]]) -> str:
    """The rows of several recipes, each relative to its own original model; all measured in one run."""
    rows = [
        ("" if number else name, number, *_cells(step)) for name, steps in recipes for number, step in enumerate(steps)
    ]
    drawn = table(rows, {"recipe": "", "": "d", "step": "", "in": "", **SPEED, "accuracy": ".2%", **SIZE})
    return "\n".join([drawn, *(line for name, steps in recipes for line in reasons(steps, f"{name}, "))])


def reasons(steps: Sequence[StepRecord], before: str) -> list[str]:
    """Verdicts that are too long for a cell."""
    return [
        f"{before}step {number}, {step.step}: {step.verdict}"
        for number, step in enumerate(steps)
        if ":" in step.verdict
    ]


def _cells(step: StepRecord) -> tuple[object, ...]:
    return (
        step.step,
        step.precision,
        step.predicted_speedup,
        step.measured_speedup,
        step.latency_ms,
        step.accuracy,
        None if step.artifact_bytes is None else step.artifact_bytes / MB,
        None if step.memory_bytes is None else step.memory_bytes / MB,
        step.verdict.partition(":")[0],
    )
