"""How much the outputs of two ways of running a model differ, and whether that is too much.

Knows nothing of models, engines or files. Distances are over all logits; `relative` is max |difference| over
max |reference|, so that one bound fits models whose logits span 5 or 50.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from toolchain.errors import ParityError
from toolchain.records.manifest import ParityRecord, Precision
from toolchain.records.output import SOFTMAX, OutputKind, match_decisions
from toolchain.records.tensors import Array


class Tolerance(NamedTuple):
    """relative: upper bound; agreement: the smallest share of images whose top-1 is the same."""

    relative: float
    agreement: float


class Original(NamedTuple):
    """The model as it came: `torch`, or a user's ONNX file by its name. precision: what it computes in, fp32 unless it
    learned to round in training, or its file is of 16 bits."""

    name: str
    precision: Precision = "fp32"


# fp32: sums in another order differ by 1e-6 to 1e-5; 1e-3 leaves room for fused operations and deep models, and is far
#   below the effect of a wrong mean, layout or padding (more than 1e-1). A near tie may still flip one image in 100.
# fp16, bf16: 11 and 8 bits of mantissa round each layer's output by 2**-11 and 2**-8; over 20 to 60 layers that adds
#   up to several times as much at the worst logit (EfficientNet-Lite0 in bf16: about 3e-2).
# int8: an unusual image is clipped to the range seen in calibration, so its logits may move by half the span while the
#   prediction stays. Agreement decides; the relative bound only catches garbage (all zeros give 1.0). 0.85 of 20
#   images: a model that truly agrees on 95 % falls below by chance once in sixty; accuracy decides finer (choose.py).
# int4w, int2w, int1w: rounding weights to so few bits without training gives another model, as expected. That the file
#   holds what was rounded is checked at 8 bits, by the same code. At 2 and 1 bits outputs must only be finite.
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
    output: OutputKind = SOFTMAX,
) -> ParityRecord:
    """Compare logits [N, classes] of the same N pictures; `names` are (reference's, candidate's).

    ParityError: shapes that differ, no images, or an output that is not finite (names the side and the image).
    """
    if reference.shape != candidate.shape or reference.ndim != 2 or reference.size == 0:
        raise ParityError(
            f"{names[1]} returned {list(candidate.shape)}, {names[0]} {list(reference.shape)}; "
            "expected the same [N, classes] from both; export the model again"
        )
    for name, logits in zip(names, (reference, candidate), strict=True):
        _require_finite(name, logits)
    bounds = TOLERANCES[precision]
    tolerance = _relative_bound(precision, reference.shape[1]) if tolerance is None else tolerance
    agreement_floor = bounds.agreement if agreement_floor is None else agreement_floor
    distances = np.abs(candidate.astype(np.float64) - reference.astype(np.float64))
    max_abs = float(distances.max())
    span = float(np.abs(reference).max())
    relative = max_abs / span if span > 0 else (0.0 if max_abs == 0 else max_abs)
    agreement = float(match_decisions(output.decide(candidate), output.decide(reference)).mean())
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


def _relative_bound(precision: Precision, outputs: int) -> float:
    """With few outputs agreement says little (of one output nothing at all), so the distance decides: one may be off by
    0.3 of the largest, two by 0.45, five or more by what any model may."""
    bound = TOLERANCES[precision].relative
    return min(bound, round(0.15 * (outputs + 1), 2)) if precision in ("int8", "int8d") else bound


def _require_finite(name: str, logits: Array) -> None:
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        first = int(np.flatnonzero(~finite)[0])
        raise ParityError(
            f"{name}: {np.count_nonzero(~finite)} of {len(logits)} outputs contain NaN or infinity, first for image "
            f"{first}; expected finite logits; check the model's weights and the input's mean and std"
        )


def compare_three_ways(
    original: Original,
    expected: Array,
    onnxruntime: Array,
    engine: Mapping[Precision, Array],
    backend: str,
    output: OutputKind = SOFTMAX,
) -> tuple[ParityRecord, ...]:
    """The original model's answers (`expected`) against ONNX Runtime's, against each precision of the engine that will
    serve, and ONNX Runtime's against the engine's fp32: the three sides of a triangle, so that a failure shows which
    conversion broke."""
    model, rounded = f"{original.name} {original.precision}", original.precision
    graph = "onnxruntime fp32" if rounded == "fp16" else f"onnxruntime {rounded}"  # the graph's floats are widened
    records = [compare(expected, onnxruntime, (model, graph), rounded, output=output)]
    for precision, logits in engine.items():
        name = f"{backend} {precision}"
        records.append(compare(expected, logits, (model, name), _looser(precision, rounded), output=output))
        if precision == "fp32":
            records.append(compare(onnxruntime, logits, (graph, name), precision, output=output))
    return tuple(records)


def _looser(first: Precision, second: Precision) -> Precision:
    return max(first, second, key=lambda precision: TOLERANCES[precision].relative)


def require_parity(records: Sequence[ParityRecord]) -> None:
    """ParityError that names the pair and the image that exceed their bounds most, and what to do."""
    failed = [record for record in records if not record.passed]
    if not failed:
        return
    worst = max(failed, key=lambda record: (record.relative / record.tolerance, -record.top1_agreement))
    raise ParityError(
        f"{worst.candidate} differs from {worst.reference}: relative {worst.relative:.2g} (at most "
        f"{worst.tolerance:.2g}), answers agree on {worst.top1_agreement:.1%} of {worst.images} images (at least "
        f"{worst.agreement_floor:.1%}); the worst is image {worst.worst_index}; {_advice(worst)}"
    )


def _advice(record: ParityRecord) -> str:
    if record.candidate.endswith(("int8w", "int4w")):
        return "increase `bits` of quantize_weights, or remove this precision from `precisions` under [build]"
    if record.candidate.endswith(("int8", "int8d")):
        return "calibrate on more images like the real ones, or remove int8 from `precisions`"
    if record.candidate.endswith(("bf16", "fp16")):
        return "remove this precision from `precisions` under [build]"
    if record.candidate.startswith("onnxruntime"):
        return "the export changed the model: look for operations that depend on the batch or on training mode"
    return "the back end changed the model; try --target=onnxruntime"
