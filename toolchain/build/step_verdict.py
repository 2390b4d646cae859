"""Does a step pay? What papers promise of it beside what was measured on the target, and a verdict in one sentence.

Pure: judges figures, makes and measures none. A step pays when the net is faster for it beyond the noise (or smaller,
where the recipe prefers size) and, after the training that follows it, above the accuracy threshold.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from toolchain.records.manifest import Precision

NOISE = 1.03  # latencies closer than 3 % are one latency
SAME_NOISE = 1.10  # one graph compiled twice may lie otherwise in memory; only other weights must gain more than that
NAMED = 3  # layers that a sentence names, at most
# how the verdict of a candidate begins that may not serve for its answers: by parity or, without labels, by how often
DIFFERS, OTHER_ANSWER, OTHER_LABELS = "refused: ", "another top-1 than fp32", "labels other than fp32's"


@dataclass(frozen=True)
class StepRow:
    """The net after a step, and what was measured of it; None: it was not, `absent` says why.

    trains: the step is nothing but training. same: its artifact is a candidate beside the others of the same module.
    computed_bits: in which products are computed; widths: output channels by layer; sparsity: share of zeros.
    """

    step: str
    macs: int
    options: dict[str, object] = field(default_factory=dict)
    trains: bool = False
    same: bool = False
    precision: Precision = "fp32"
    stored_bits: int = 32
    computed_bits: int = 32
    widths: dict[str, int] = field(default_factory=dict)
    sparsity: float = 0.0
    latency_ms: float | None = None
    accuracy: float | None = None
    artifact_bytes: int | None = None
    memory_bytes: int | None = None
    absent: str = ""


@dataclass(frozen=True)
class StepCriteria:
    """What a step is held to. reference: share of the test split that the net must come within max_loss points of,
    known from the row `judged_from` on (before it, accuracies are told only); None: not judged. lanes: fp32 numbers in
    one vector of this CPU. computes: False for an engine whose timing says nothing of the net."""

    prefer: Literal["latency", "size"] = "latency"
    reference: float | None = None
    max_loss: float = 0.0
    judged_from: int = 0
    lanes: int = 8
    computes: bool = True


@dataclass(frozen=True)
class StepVerdict:
    """predicted, measured: speed-up over the original model; step_*: over the model before the step. pays: None
    where nothing can be said."""

    predicted: float
    measured: float | None
    step_predicted: float
    step_measured: float | None
    pays: bool | None
    sentence: str


def is_refused(candidate_verdict: str) -> bool:
    """Whether a candidate may not serve because it answers otherwise than the model; the step that made it cannot pay
    then."""
    return candidate_verdict.startswith((DIFFERS, OTHER_ANSWER, OTHER_LABELS))


def judge_steps(rows: Sequence[StepRow], criteria: StepCriteria) -> tuple[StepVerdict, ...]:
    """A verdict a row. rows[0]: the original model; training rows are judged with the step before them."""
    return tuple(_verdict(rows, number, criteria) for number in range(len(rows)))


def predicted_speedup(start: StepRow, row: StepRow) -> float:
    """The speed-up that papers promise: fewer multiply-accumulates, in fewer bits, zeros left out."""
    left = max(1 - row.sparsity, 1e-6) / max(1 - start.sparsity, 1e-6)
    return start.macs / max(row.macs, 1) * start.computed_bits / row.computed_bits / left


def measured_speedup(start: StepRow, row: StepRow) -> float | None:
    return start.latency_ms / row.latency_ms if start.latency_ms and row.latency_ms else None


def base_of(rows: Sequence[StepRow], number: int) -> int:
    """The row that a step is held against: the one before, past those that only made another candidate."""
    before = number - 1
    while before > 0 and rows[before].same:
        before -= 1
    return max(before, 0)


def _verdict(rows: Sequence[StepRow], number: int, criteria: StepCriteria) -> StepVerdict:
    row, start, before = rows[number], rows[0], rows[base_of(rows, number)]
    pays, sentence = _judge(rows, number, before, criteria)
    return StepVerdict(
        predicted=predicted_speedup(start, row),
        measured=measured_speedup(start, row),
        step_predicted=predicted_speedup(before, row),
        step_measured=measured_speedup(before, row),
        pays=pays,
        sentence=sentence,
    )


def _judge(rows: Sequence[StepRow], number: int, before: StepRow, criteria: StepCriteria) -> tuple[bool | None, str]:
    row = rows[number]
    if number == 0:
        return None, "original"
    if not criteria.computes:
        return None, "not judged: this engine computes nothing"
    if row.absent:
        return None, row.absent
    if row.trains:
        changed = next((at for at in range(number, 0, -1) if not rows[at].trains), 0)
        return None, f"judged with step {changed}" if changed else "training"
    loss = _loss(rows, number, criteria)
    reasons = [reason for reason in (_cost(row, before, criteria), loss) if reason]
    if reasons:
        return False, f"does not pay: {'; '.join(reasons)}"
    known, mine = (
        (before.artifact_bytes, row.artifact_bytes)
        if criteria.prefer == "size"
        else (before.latency_ms, row.latency_ms)
    )
    return (True, "pays") if known is not None and mine is not None else (None, "not measured")


def _loss(rows: Sequence[StepRow], number: int, criteria: StepCriteria) -> str:
    """Too much accuracy lost when the training that follows the step (perhaps after more steps) is over; '' when not,
    or where none is known."""
    end = next((at for at in range(number + 1, len(rows)) if rows[at].trains), number)
    while end + 1 < len(rows) and rows[end + 1].trains:
        end += 1
    found = rows[end].accuracy
    if criteria.reference is None or found is None or end < criteria.judged_from:
        return ""
    points = (criteria.reference - found) * 100
    trained = " after the training that follows" if end > number else ""
    return (
        f"loses {points:.2f} points{trained}, at most {criteria.max_loss:.2f} allowed"
        if points > criteria.max_loss + 1e-9
        else ""
    )


def _cost(row: StepRow, before: StepRow, criteria: StepCriteria) -> str:
    """Why the step saves nothing; '' when it does."""
    if criteria.prefer == "size":
        if row.artifact_bytes is None or before.artifact_bytes is None or row.artifact_bytes < before.artifact_bytes:
            return ""
        return f"not smaller: {before.artifact_bytes / 1e6:.2f} -> {row.artifact_bytes / 1e6:.2f} MB"
    noise = SAME_NOISE if _same_shape(row, before) else NOISE
    if row.latency_ms is None or before.latency_ms is None or before.latency_ms > row.latency_ms * noise:
        return ""
    reason, figures = _reason(row, before, criteria), _slower(row.latency_ms, before.latency_ms)
    if not reason:
        return figures
    return f"{reason} ({figures})" if ":" in reason else f"{reason}: {figures}"


def _same_shape(row: StepRow, before: StepRow) -> bool:
    return (row.macs, row.widths, row.precision) == (before.macs, before.widths, before.precision)


def _slower(after_ms: float, before_ms: float) -> str:
    share = (after_ms / before_ms - 1) * 100
    words = f"{share:.0f} % slower" if after_ms > before_ms * NOISE else "no faster"
    return f"{words}, {before_ms:#.3g} -> {after_ms:#.3g} ms"


def _reason(row: StepRow, before: StepRow, criteria: StepCriteria) -> str:
    """What is known of engines that explains it; '' where the figures must speak for themselves."""
    if row.computed_bits > row.stored_bits:
        return "weights are widened to fp32 before computing: smaller, not faster"
    if row.sparsity > before.sparsity + 0.01 and row.macs == before.macs:
        pattern = row.options.get("pattern")
        kind = f"{pattern} sparsity" if pattern not in (None, "any") else "unstructured sparsity"
        return f"{kind}: no sparse kernel in this engine"
    broken = {
        name: width
        for name, width in row.widths.items()
        if width != before.widths.get(name, width) and width % criteria.lanes and row.computed_bits == 32
    }
    if not broken:
        return ""
    said = ", ".join(f"{name} {width}" for name, width in list(broken.items())[:NAMED])
    more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
    ratio = row.options.get("ratio")
    what = f"ratio {ratio:g}" if isinstance(ratio, float) else row.step
    return f"{what} breaks the vector width of {criteria.lanes} ({said}{more})"
