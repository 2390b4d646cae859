"""Chooses the precision that serves: of the candidates that meet the accuracy threshold, the fastest or the smallest.

`choose` is pure: it compares the figures that `measure_candidates` wrote into the candidates. Knows nothing of recipes,
files, or how a candidate was built.
"""

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from deploy.runtime.engines import Engine, Settings, open_engine
from toolchain.accuracy.quality import Quality, assess_quality
from toolchain.build.step_verdict import NOISE
from toolchain.errors import AccuracyError, DeviceError
from toolchain.job.latency import latencies_ms, scores_of
from toolchain.records.manifest import WEIGHT_BITS, Candidate, Precision
from toolchain.records.output import SOFTMAX, OutputKind, match_decisions
from toolchain.records.tensors import Array

if TYPE_CHECKING:
    from toolchain.data.dataset import ImageSource, Split

logger = logging.getLogger(__name__)


AGREEMENT = "top1_agreement"  # in Candidate.options, where there are no labels for an accuracy
# the order of preference where nothing was timed: 16 bits are seldom slower; int8 must prove on the device to be faster
UNTIMED_FIRST: tuple[Precision, ...] = ("fp16", "bf16", "int8", "fp32")
PRECISE_FIRST: tuple[Precision, ...] = (
    *("fp32", "fp16", "int8w", "bf16", "int8d", "int8"),
    *("int4w", "int2w", "int1w"),
)
Prefer = Literal["latency", "size"]
MB = 1e6


class CandidateChoice(NamedTuple):
    """candidates: with their verdicts, in the given order. sentence: why `chosen`, for the manifest and the table."""

    candidates: tuple[Candidate, ...]
    chosen: Precision
    sentence: str


def measure_candidates(
    folder: Path,
    candidates: Sequence[Candidate],
    test: "Split | None",
    settings: Settings,
    source: "ImageSource | None" = None,
    reference: Precision = "fp32",
    timed: bool = True,
    output: OutputKind = SOFTMAX,
    quality: dict[str, Quality] | None = None,
) -> tuple[Candidate, ...]:
    """Fill in latency_ms (batch 1; None where `timed` is False, since another engine stands in) and accuracy (top-1, or
    the measure of `output`, on all of `test`). A candidate that cannot run here gets the reason as its verdict.

    Without labels (`test` is None), top-1 agreement with the candidate `reference` on the images of `source` goes into
    `options` as `top1_agreement`. reference: fp32, or the precision that the model learned in training. quality: is
    filled in too, by precision. AccuracyError when there are no images or no reference.
    """
    images = test.images if test is not None else source
    if images is None or len(images) == 0:
        raise AccuracyError("no images to measure candidates on; give the recipe's [data] a test split or images")
    if test is None and all(candidate.precision != reference for candidate in candidates):
        raise AccuracyError(
            f"no labelled test split, and no {reference} to agree with; add {reference} to `precisions` under [build]"
        )
    latency = msgspec.structs.replace(settings, hint="latency")
    runnable, refused = _open_candidates(folder, candidates, images if timed else None, latency)
    throughput = msgspec.structs.replace(settings, hint="throughput")
    answers: dict[Precision, Array] = {}
    for candidate in runnable.values():
        with open_engine(folder, candidate, throughput) as engine:
            what = f"{candidate.precision}: batches of images"
            scores = scores_of(engine, images, what)
        answers[candidate.precision] = output.decide(scores)
        if test is not None and quality is not None:
            quality[candidate.precision] = assess_quality(scores, test.labels, output)
        timing = "not timed" if candidate.latency_ms is None else f"{candidate.latency_ms:#.3g} ms"
        logger.info(f"  {candidate.precision}: {timing}; {len(images)} images classified")
    truth = test.labels if test is not None else answers.get(reference)
    if truth is None:
        raise AccuracyError(f"no labelled test split, and {reference} to agree with {refused[reference].verdict}")
    scored = {
        name: _score_candidate(candidate, answers[name], truth, test is not None)
        for name, candidate in runnable.items()
    }
    return tuple((scored | refused)[candidate.precision] for candidate in candidates)


def _open_candidates(
    folder: Path, candidates: Sequence[Candidate], images: "ImageSource | None", settings: Settings
) -> tuple[dict[Precision, Candidate], dict[Precision, Candidate]]:
    """By precision: the candidates that run here, with latency_ms if there are images, and those that do not, with the
    reason as verdict."""
    runnable: dict[Precision, Candidate] = {}
    refused: dict[Precision, Candidate] = {}
    engines: dict[str, Engine] = {}
    with ExitStack() as stack:
        for candidate in candidates:
            try:
                engines[candidate.precision] = stack.enter_context(open_engine(folder, candidate, settings))
                runnable[candidate.precision] = candidate
            except DeviceError as error:
                verdict = f"cannot run here: {error}"
                refused[candidate.precision] = msgspec.structs.replace(candidate, verdict=verdict)
        medians = latencies_ms(engines, images) if engines and images is not None else {}
    return {
        name: msgspec.structs.replace(candidate, latency_ms=medians.get(name)) for name, candidate in runnable.items()
    }, refused


def _score_candidate(candidate: Candidate, answers: Array, truth: Array, labelled: bool) -> Candidate:
    share = float(match_decisions(answers, truth).mean())
    if labelled:
        return msgspec.structs.replace(candidate, accuracy=share)
    return msgspec.structs.replace(candidate, options=candidate.options | {AGREEMENT: share})


def choose(
    candidates: Sequence[Candidate],
    accuracy_fp32_torch: float | None,
    max_accuracy_loss_points: float,
    prefer: Prefer = "latency",
    measure: str = "top-1",
    advice: str = "raise `max_accuracy_loss` under [build]",
) -> CandidateChoice:
    """The fastest candidate that meets the accuracy threshold; of those within 3 % of it, the most precise. With
    prefer = "size" the smallest on disk; of equals the fastest.

    accuracy_fp32_torch: share 0..1; None: no labels, so the threshold applies to top-1 agreement with fp32.
    max_accuracy_loss_points: 0.3 allows 92.05 % to drop to 91.75 %; measure: what the accuracies are called.
    AccuracyError with all figures and `advice` in one line when no candidate meets the threshold.
    """
    reference = 1.0 if accuracy_fp32_torch is None else accuracy_fp32_torch
    losses = {
        candidate.precision: (reference - _share(candidate)) * 100
        for candidate in candidates
        if answers_here(candidate)
    }
    kept = [
        candidate for candidate in candidates if losses.get(candidate.precision, 1e9) <= max_accuracy_loss_points + 1e-9
    ]
    if not kept:
        raise AccuracyError(_none_kept(candidates, losses, max_accuracy_loss_points, advice))
    fastest = min(kept, key=_latency)
    if fastest.latency_ms is None and prefer == "latency":
        return _choose_untimed(candidates, kept, losses, max_accuracy_loss_points)
    level = [candidate for candidate in kept if _latency(candidate) <= _latency(fastest) * NOISE]
    winner = min(level, key=lambda candidate: PRECISE_FIRST.index(candidate.precision))
    if prefer == "size":
        winner = min(kept, key=lambda candidate: (candidate.size_bytes, _latency(candidate)))
    verdicts = (
        _unfit(candidate, losses.get(candidate.precision), max_accuracy_loss_points)
        or (_by_size(candidate, winner) if prefer == "size" else _by_latency(candidate, winner, fastest))
        for candidate in candidates
    )
    judged = tuple(
        msgspec.structs.replace(candidate, verdict=verdict + _larger_file(candidate, candidates))
        for candidate, verdict in zip(candidates, verdicts, strict=True)
    )
    share = measure if accuracy_fp32_torch is not None else f"{measure} agreement with fp32 (no labelled test split)"
    clauses = [f"{winner.precision}: {_format_latency(winner)}, {_share(winner):.2%} {share}"]
    clauses += _because_of_size(winner, losses) if prefer == "size" else _because_of_latency(winner, fastest, losses)
    return CandidateChoice(judged, winner.precision, "; ".join((*clauses, *_slower(candidates, winner, losses))))


def _choose_untimed(
    candidates: Sequence[Candidate], kept: Sequence[Candidate], losses: dict[Precision, float], max_points: float
) -> CandidateChoice:
    """For a device that is not here: the candidate that is probably fastest serves until a device has measured them."""
    winner = min(kept, key=lambda candidate: UNTIMED_FIRST.index(candidate.precision))
    verdicts = {
        candidate.precision: _unfit(candidate, losses.get(candidate.precision), max_points)
        or (
            "chosen until a device has measured it"
            if candidate is winner
            else "meets the accuracy threshold; not timed here"
        )
        for candidate in candidates
    }
    judged = tuple(
        msgspec.structs.replace(candidate, verdict=verdicts[candidate.precision] + _larger_file(candidate, candidates))
        for candidate in candidates
    )
    others = ", ".join(candidate.precision for candidate in kept if candidate is not winner) or "none"
    lost = _loss(losses[winner.precision])
    sentence = (
        f"{winner.precision}: meets the accuracy threshold ({lost}); not timed: no such device here; so do: {others}"
    )
    return CandidateChoice(judged, winner.precision, sentence)


def answers_here(candidate: Candidate) -> bool:
    """Whether it, or its stand-in, ran on this machine."""
    return any((candidate.accuracy is not None, candidate.latency_ms is not None, AGREEMENT in candidate.options))


def _share(candidate: Candidate) -> float:
    return candidate.options.get(AGREEMENT, 0.0) if candidate.accuracy is None else candidate.accuracy


def _latency(candidate: Candidate) -> float:
    return float("inf") if candidate.latency_ms is None else candidate.latency_ms


def _format_latency(candidate: Candidate) -> str:
    return "not timed" if candidate.latency_ms is None else f"{candidate.latency_ms:#.3g} ms"


def _unfit(candidate: Candidate, loss: float | None, max_points: float) -> str:
    """Why it cannot be chosen; '' when it can."""
    if loss is None:
        return candidate.verdict or "not measured"
    return f"loses {loss:.2f} points, at most {max_points:.2f} allowed" if loss > max_points + 1e-9 else ""


def _by_latency(candidate: Candidate, winner: Candidate, fastest: Candidate) -> str:
    times = f"{_latency(candidate):#.3g} ms against {_latency(winner):#.3g} ms"
    if candidate.precision == winner.precision:
        if winner is fastest:
            return "chosen: fastest that meets the accuracy threshold"
        return f"chosen: within 3 % of {fastest.precision} ({_latency(fastest):#.3g} ms), and more precise"
    storage = f"; {candidate.storage}" if candidate.storage else ""
    if _latency(candidate) <= _latency(fastest) * NOISE:
        return f"no faster than {winner.precision} beyond noise: {times}{storage}"
    return f"slower than {winner.precision}: {times}{storage}"


def _by_size(candidate: Candidate, winner: Candidate) -> str:
    if candidate.precision == winner.precision:
        return "chosen: smallest that meets the accuracy threshold"
    if candidate.size_bytes == winner.size_bytes:
        return f"no smaller than {winner.precision}, and slower"
    return f"larger than {winner.precision}: {_megabytes(candidate)} against {_megabytes(winner)}"


def _because_of_latency(winner: Candidate, fastest: Candidate, losses: dict[Precision, float]) -> list[str]:
    if winner is not fastest:
        return [f"{fastest.precision} is within 3 % of it, so the more precise one is chosen"]
    return [f"fastest of {len(losses)} measured that meets the accuracy threshold ({_loss(losses[winner.precision])})"]


def _because_of_size(winner: Candidate, losses: dict[Precision, float]) -> list[str]:
    lost = _loss(losses[winner.precision])
    smallest = f"smallest of {len(losses)} measured that meets the accuracy threshold ({lost})"
    return [f'{_megabytes(winner)}: {smallest}, as prefer = "size" requires']


def _slower(candidates: Sequence[Candidate], winner: Candidate, losses: dict[Precision, float]) -> list[str]:
    """A sentence for each candidate that computes in fewer bits than the winner and is slower nevertheless."""
    rank = PRECISE_FIRST.index(winner.precision)
    return [
        f"{candidate.precision} is slower than {winner.precision} here, {_latency(candidate):#.3g} against "
        f"{_latency(winner):#.3g} ms"
        for candidate in candidates
        if candidate.precision in losses
        and candidate.precision not in ("fp16", *WEIGHT_BITS)
        and PRECISE_FIRST.index(candidate.precision) > rank
        and _latency(candidate) > _latency(winner) * NOISE
    ]


def _larger_file(candidate: Candidate, candidates: Sequence[Candidate]) -> str:
    full = next((each for each in candidates if each.precision == "fp32"), candidate)
    words = f"; its file is larger than fp32's: {_megabytes(candidate)} against {_megabytes(full)}"
    return words if candidate.size_bytes > full.size_bytes * NOISE else ""


def _megabytes(candidate: Candidate) -> str:
    return f"{candidate.size_bytes / MB:#.3g} MB"


def _loss(points: float) -> str:
    return f"{points:.2f} points lost" if points >= 0.005 else "nothing lost"


def _none_kept(candidates: Sequence[Candidate], losses: dict[Precision, float], max_points: float, advice: str) -> str:
    rows = [
        f"{candidate.precision} loses {losses[candidate.precision]:.2f} points ({_format_latency(candidate)})"
        if candidate.precision in losses
        else f"{candidate.precision} {candidate.verdict or 'was not measured'}"
        for candidate in candidates
    ]
    threshold = f"no candidate meets the accuracy threshold (at most {max_points:.2f} points lost)"
    return f"{threshold}: {', '.join(rows)}; {_cure(candidates, losses, advice)}"


def _cure(candidates: Sequence[Candidate], losses: dict[Precision, float], advice: str) -> str:
    """What to change: no training helps a candidate whose sums saturate on this machine's CPU."""
    if any(candidate.saturates and candidate.precision not in losses for candidate in candidates):
        return "remove `full_range`, or build on a CPU with VNNI"
    return advice
