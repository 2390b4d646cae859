"""Which precision serves: every candidate is measured here, and of those above the accuracy floor the fastest is
chosen, or the smallest.

`choose` is pure: it judges the figures that `measure_candidates` wrote into the candidates. Knows nothing of recipes,
of files or of how a candidate was made.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from deploy.runtime.engines import Engine, Settings, open_engine
from toolchain.build.step_verdict import NOISE
from toolchain.errors import AccuracyError, DeviceError
from toolchain.job.latency import latencies_ms, top1_of
from toolchain.records.manifest import WEIGHT_BITS, Candidate, Precision

if TYPE_CHECKING:
    from toolchain.data.dataset import ImageSource, Split

logger = logging.getLogger(__name__)


AGREEMENT = "top1_agreement"  # in Candidate.options, where no labels tell an accuracy
# where nothing was timed: half the bytes at once, and seldom slower; int8 must prove on the device that it is faster
UNTIMED_FIRST: tuple[Precision, ...] = ("fp16", "bf16", "int8", "fp32")
PRECISE_FIRST: tuple[Precision, ...] = (
    "fp32",
    "fp16",
    "int8w",
    "bf16",
    "int8d",
    "int8",
    "int4w",
    "int2w",
    "int1w",
)
Prefer = Literal["latency", "size"]
MB = 1e6


class CandidateChoice(NamedTuple):
    """candidates: with a verdict each, in the order given; sentence: why `chosen`, for the manifest and the table."""

    candidates: tuple[Candidate, ...]
    chosen: Precision
    sentence: str


def measure_candidates(
    folder: Path,
    candidates: Sequence[Candidate],
    test: "Split | None",
    settings: Settings,
    pictures: "ImageSource | None" = None,
    right: Precision = "fp32",
    timed: bool = True,
) -> tuple[Candidate, ...]:
    """Fill latency_ms (batch 1; not where `timed` is False: it would be another engine's) and accuracy (top-1, all of
    `test`); a candidate that cannot run here says so.

    Without labels (`test` is None), top-1 agreement with the candidate `right` on `pictures` goes into `options` as
    `top1_agreement`: fp32, or what the net learned in training. AccuracyError when there is neither.
    """
    images = test.images if test is not None else pictures
    if images is None or len(images) == 0:
        raise AccuracyError("no images to measure candidates on; give the recipe's [data] a test split or images")
    if test is None and all(candidate.precision != right for candidate in candidates):
        raise AccuracyError(
            f"no labelled test split, and no {right} to agree with; add {right} to `precisions` under [build]"
        )
    latency = msgspec.structs.replace(settings, hint="latency")
    able, refused = _open_candidates(folder, candidates, images if timed else None, latency)
    throughput = msgspec.structs.replace(settings, hint="throughput")
    answers: dict[Precision, NDArray[np.int64]] = {}
    for candidate in able.values():
        with open_engine(folder, candidate, throughput) as engine:
            answers[candidate.precision] = top1_of(engine, images, f"{candidate.precision}: batches of pictures")
        taken = "not timed" if candidate.latency_ms is None else f"{candidate.latency_ms:#.3g} ms"
        logger.info(f"  {candidate.precision}: {taken}; {len(images)} pictures answered")
    truth = test.labels if test is not None else answers.get(right)
    if truth is None:
        raise AccuracyError(f"no labelled test split, and {right} to agree with {refused[right].verdict}")
    scored = {name: _score_candidate(found, answers[name], truth, test is not None) for name, found in able.items()}
    return tuple((scored | refused)[candidate.precision] for candidate in candidates)


def _open_candidates(
    folder: Path, candidates: Sequence[Candidate], images: "ImageSource | None", settings: Settings
) -> tuple[dict[Precision, Candidate], dict[Precision, Candidate]]:
    """Those that run here, with latency_ms where there are images, and those that do not, with the reason as verdict;
    by precision."""
    able: dict[Precision, Candidate] = {}
    refused: dict[Precision, Candidate] = {}
    engines: dict[str, Engine] = {}
    with ExitStack() as stack:
        for candidate in candidates:
            try:
                engines[candidate.precision] = stack.enter_context(open_engine(folder, candidate, settings))
                able[candidate.precision] = candidate
            except DeviceError as error:
                verdict = f"cannot run here: {error}"
                refused[candidate.precision] = msgspec.structs.replace(candidate, verdict=verdict)
        found = latencies_ms(engines, images) if engines and images is not None else {}
    return {
        name: msgspec.structs.replace(candidate, latency_ms=found.get(name)) for name, candidate in able.items()
    }, refused


def _score_candidate(
    candidate: Candidate, answers: NDArray[np.int64], truth: NDArray[np.int64], labelled: bool
) -> Candidate:
    share = float(np.mean(answers == truth))
    if labelled:
        return msgspec.structs.replace(candidate, accuracy=share)
    return msgspec.structs.replace(candidate, options=candidate.options | {AGREEMENT: share})


def choose(
    candidates: Sequence[Candidate],
    accuracy_fp32_torch: float | None,
    max_accuracy_loss_points: float,
    prefer: Prefer = "latency",
) -> CandidateChoice:
    """The fastest candidate whose loss is within the floor; among those within 3 % of it, the most precise. With
    prefer = "size" the smallest on disk; among equals the fastest.

    accuracy_fp32_torch: share 0..1; None: no labels, the floor is on top-1 agreement with fp32.
    max_accuracy_loss_points: 0.3 lets 92.05 % fall to 91.75 %. AccuracyError, with all figures in one line, when none
    keeps the floor.
    """
    reference = 1.0 if accuracy_fp32_torch is None else accuracy_fp32_torch
    losses = {found.precision: (reference - _share(found)) * 100 for found in candidates if answers_here(found)}
    kept = [found for found in candidates if losses.get(found.precision, 1e9) <= max_accuracy_loss_points + 1e-9]
    if not kept:
        raise AccuracyError(_none_kept(candidates, losses, max_accuracy_loss_points))
    fastest = min(kept, key=_latency)
    if fastest.latency_ms is None and prefer == "latency":
        return _choose_untimed(candidates, kept, losses, max_accuracy_loss_points)
    level = [found for found in kept if _latency(found) <= _latency(fastest) * NOISE]
    winner = min(level, key=lambda found: PRECISE_FIRST.index(found.precision))
    if prefer == "size":
        winner = min(kept, key=lambda found: (found.size_bytes, _latency(found)))
    verdicts = (
        _unfit(found, losses.get(found.precision), max_accuracy_loss_points)
        or (_by_size(found, winner) if prefer == "size" else _by_latency(found, winner, fastest))
        for found in candidates
    )
    judged = tuple(
        msgspec.structs.replace(found, verdict=verdict) for found, verdict in zip(candidates, verdicts, strict=True)
    )
    measure = "top-1" if accuracy_fp32_torch is not None else "top-1 agreement with fp32 (no labelled test split)"
    clauses = [f"{winner.precision}: {_told_ms(winner)}, {_share(winner):.2%} {measure}"]
    clauses += _because_of_size(winner, losses) if prefer == "size" else _because_of_latency(winner, fastest, losses)
    return CandidateChoice(judged, winner.precision, "; ".join((*clauses, *_slower(candidates, winner, losses))))


def _choose_untimed(
    candidates: Sequence[Candidate], kept: Sequence[Candidate], losses: dict[Precision, float], max_points: float
) -> CandidateChoice:
    """The device that it is for is not here: what is likely fastest serves until a device has measured them."""
    winner = min(kept, key=lambda found: UNTIMED_FIRST.index(found.precision))
    verdicts = {
        found.precision: _unfit(found, losses.get(found.precision), max_points)
        or ("chosen until a device has measured it" if found is winner else "keeps the floor; not timed here")
        for found in candidates
    }
    judged = tuple(msgspec.structs.replace(found, verdict=verdicts[found.precision]) for found in candidates)
    others = ", ".join(found.precision for found in kept if found is not winner) or "none"
    lost = _loss(losses[winner.precision])
    sentence = f"{winner.precision}: keeps the floor ({lost}), not timed: no such device here; also above it: {others}"
    return CandidateChoice(judged, winner.precision, sentence)


def answers_here(candidate: Candidate) -> bool:
    """Whether it, or what stands in for it, was asked on this machine."""
    return any((candidate.accuracy is not None, candidate.latency_ms is not None, AGREEMENT in candidate.options))


def _share(candidate: Candidate) -> float:
    return candidate.options.get(AGREEMENT, 0.0) if candidate.accuracy is None else candidate.accuracy


def _latency(candidate: Candidate) -> float:
    return float("inf") if candidate.latency_ms is None else candidate.latency_ms


def _told_ms(candidate: Candidate) -> str:
    return "not timed" if candidate.latency_ms is None else f"{candidate.latency_ms:#.3g} ms"


def _unfit(found: Candidate, loss: float | None, max_points: float) -> str:
    """Why it cannot be chosen at all; '' when it can."""
    if loss is None:
        return found.verdict or "not measured"
    return f"loses {loss:.2f} points, floor allows {max_points:.2f}" if loss > max_points + 1e-9 else ""


def _by_latency(found: Candidate, winner: Candidate, fastest: Candidate) -> str:
    times = f"{_latency(found):#.3g} ms against {_latency(winner):#.3g} ms"
    if found.precision == winner.precision:
        if winner is fastest:
            return "chosen: fastest above the floor"
        return f"chosen: within 3 % of {fastest.precision} ({_latency(fastest):#.3g} ms), and more precise"
    why = f"; {found.storage}" if found.storage else ""
    if _latency(found) <= _latency(fastest) * NOISE:
        return f"no faster than {winner.precision} beyond noise: {times}{why}"
    return f"slower than {winner.precision}: {times}{why}"


def _by_size(found: Candidate, winner: Candidate) -> str:
    if found.precision == winner.precision:
        return "chosen: smallest above the floor"
    if found.size_bytes == winner.size_bytes:
        return f"no smaller than {winner.precision}, and slower"
    return f"larger than {winner.precision}: {_megabytes(found)} against {_megabytes(winner)}"


def _because_of_latency(winner: Candidate, fastest: Candidate, losses: dict[Precision, float]) -> list[str]:
    if winner is not fastest:
        return [f"{fastest.precision} is within 3 % of it, so the more precise is taken"]
    return [f"fastest of {len(losses)} measured that keeps the floor ({_loss(losses[winner.precision])})"]


def _because_of_size(winner: Candidate, losses: dict[Precision, float]) -> list[str]:
    kept = f"keeps the floor ({_loss(losses[winner.precision])})"
    return [f'{_megabytes(winner)}: smallest of {len(losses)} measured that {kept}, as prefer = "size" asks']


def _slower(candidates: Sequence[Candidate], winner: Candidate, losses: dict[Precision, float]) -> list[str]:
    """Of what computes in fewer bits than the winner and was to be faster for it: that it is not, and the figures."""
    rank = PRECISE_FIRST.index(winner.precision)
    return [
        f"{found.precision} is slower than {winner.precision} here, {_latency(found):#.3g} against "
        f"{_latency(winner):#.3g} ms"
        for found in candidates
        if found.precision in losses
        and found.precision not in ("fp16", *WEIGHT_BITS)
        and PRECISE_FIRST.index(found.precision) > rank
        and _latency(found) > _latency(winner) * NOISE
    ]


def _megabytes(candidate: Candidate) -> str:
    return f"{candidate.size_bytes / MB:#.3g} MB"


def _loss(points: float) -> str:
    return f"{points:.2f} points lost" if points >= 0.005 else "nothing lost"


def _none_kept(candidates: Sequence[Candidate], losses: dict[Precision, float], max_points: float) -> str:
    rows = [
        f"{found.precision} loses {losses[found.precision]:.2f} points ({_told_ms(found)})"
        if found.precision in losses
        else f"{found.precision} {found.verdict or 'was not measured'}"
        for found in candidates
    ]
    return (
        f"no candidate keeps the floor of {max_points:.2f} points: {', '.join(rows)}; "
        "raise `max_accuracy_loss` under [build], or add a finetune step"
    )
