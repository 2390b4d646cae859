"""How far two ways of running a model are from each other, and whether that is too far.

Knows nothing of models, engines or files. Distances are over all logits; `relative` is max |difference| over
max |reference|, so that one number fits nets whose logits span 5 or 50.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from toolchain.errors import ParityError
from toolchain.records.manifest import ParityRecord, Precision
from toolchain.records.tensors import Array


class Tolerance(NamedTuple):
    """relative: upper bound; agreement: least share of pictures whose top-1 is the same."""

    relative: float
    agreement: float


# fp32: sums in another order differ by 1e-6 to 1e-5; 1e-3 leaves room for fused operations and deep nets, and is far
#   below what a wrong mean, layout or padding does (more than 1e-1). A near tie may still flip a picture in a hundred.
# fp16, bf16: 11 and 8 bits of mantissa round each layer's output by 2**-11 and 2**-8; over 20 to 60 layers that adds
#   up to several times as much at the worst logit (EfficientNet-Lite0 in bf16: about 3e-2).
# int8: an unusual picture is clipped to the range that calibration saw, so its logits may move by half the span while
#   the answer stays. Agreement judges, and the relative bound only catches garbage (all zeros have 1.0). 0.85 of 20
#   pictures: a net that truly agrees on 95 % falls below by chance once in sixty; accuracy judges finer (choose.py).
# int4w, int2w, int1w: rounding weights untrained to so few bits makes another net, and rightly so; that the file is
#   what was rounded is seen at 8 bits, which go the same way. At 2 and 1 finiteness alone is asked; accuracy judges.
TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-3, 0.99),
    "fp16": Tolerance(2e-2, 0.98),
    "bf16": Tolerance(8e-2, 0.95),
    "int8": Tolerance(9e-1, 0.85),
    "int8d": Tolerance(9e-1, 0.85),
    "int8w": Tolerance(3e-1, 0.9),
    "int4w": Tolerance(9e-1, 0.5),
    "int2w": Tolerance(1e3, 0.0),
    "int1w": Tolerance(1e3, 0.0),
}


def compare(
    reference: Array,
    candidate: Array,
    names: tuple[str, str],
    precision: Precision,
    tolerance: float | None = None,
    agreement_floor: float | None = None,
) -> ParityRecord:
    """Compare logits [N, classes] of the same N pictures; `names` are (reference's, candidate's).

    ParityError: shapes that differ, no pictures, an answer that is not finite (it names whose and which picture's).
    """
    if reference.shape != candidate.shape or reference.ndim != 2 or reference.size == 0:
        raise ParityError(
            f"{names[1]} answered {list(candidate.shape)}, {names[0]} {list(reference.shape)}; "
            "expected the same [N, classes] of both; export the model again"
        )
    for name, answers in zip(names, (reference, candidate), strict=True):
        _require_finite(name, answers)
    bounds = TOLERANCES[precision]
    tolerance = bounds.relative if tolerance is None else tolerance
    agreement_floor = bounds.agreement if agreement_floor is None else agreement_floor
    distances = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    max_abs = float(distances.max())
    span = float(np.abs(reference).max())
    relative = max_abs / span if span > 0 else (0.0 if max_abs == 0 else max_abs)
    agreement = float(np.mean(reference.argmax(1) == candidate.argmax(1)))
    return ParityRecord(
        reference=names[0],
        candidate=names[1],
        images=len(reference),
        max_abs=max_abs,
        mean_abs=float(distances.mean()),
        relative=relative,
        top1_agreement=agreement,
        worst_index=int(distances.max(1).argmax()),
        tolerance=tolerance,
        agreement_floor=agreement_floor,
        passed=relative <= tolerance and agreement >= agreement_floor,
    )


def _require_finite(name: str, answers: Array) -> None:
    finite = np.isfinite(answers).all(axis=1)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise ParityError(
            f"{name}: {np.count_nonzero(~finite)} of {len(answers)} answers hold NaN or infinity, first for picture "
            f"{first}; expected finite logits; check the model's weights and the input's mean and std"
        )


def compare_three_ways(
    torch: Array | None,
    onnxruntime: Array,
    engine: Mapping[Precision, Array],
    backend: str,
    learned: Precision | None = None,
) -> tuple[ParityRecord, ...]:
    """torch against ONNX Runtime, then the best reference against each precision of the engine that will serve, and
    ONNX Runtime against its fp32: three sides of a triangle, so that a failure tells which step of the way broke.

    torch is None for a model that came as ONNX: ONNX Runtime is the reference then. learned: what training made of the
    net, so that the graph itself rounds: a sum of another order may fall on the other side of a rounding edge.
    """
    net, graph = (f"{room} {learned or 'fp32'}" for room in ("torch", "onnxruntime"))
    records = [] if torch is None else [compare(torch, onnxruntime, (net, graph), learned or "fp32")]
    for precision, answers in engine.items():
        name = f"{backend} {precision}"
        if torch is not None:
            records.append(compare(torch, answers, (net, name), precision))
        if torch is None or precision == "fp32":
            records.append(compare(onnxruntime, answers, (graph, name), precision))
    return tuple(records)


def require_parity(records: Sequence[ParityRecord]) -> None:
    """ParityError that names the pair and picture that are furthest beyond their bounds, and what to do."""
    failed = [record for record in records if not record.passed]
    if not failed:
        return
    worst = max(failed, key=lambda record: (record.relative / record.tolerance, -record.top1_agreement))
    raise ParityError(
        f"{worst.candidate} differs from {worst.reference}: relative {worst.relative:.2g} (at most "
        f"{worst.tolerance:.2g}), top-1 agrees on {worst.top1_agreement:.1%} of {worst.images} pictures (at least "
        f"{worst.agreement_floor:.1%}); the worst is picture {worst.worst_index}; {_advice(worst)}"
    )


def _advice(record: ParityRecord) -> str:
    if record.candidate.endswith(("int8w", "int4w")):
        return "raise `bits` of quantize_weights, or leave this precision out of `precisions` under [build]"
    if record.candidate.endswith(("int8", "int8d")):
        return "calibrate on more pictures like the real ones, or leave int8 out of `precisions`"
    if record.candidate.endswith(("bf16", "fp16")):
        return "leave this precision out of `precisions` under [build]"
    if record.candidate.startswith("onnxruntime"):
        return "the export changed the model: look for operations that depend on the batch or on training mode"
    return "the back end changed the model: try --target=onnxruntime"
