"""Which [input] a model was trained with: sizes and normalizations are tried on labelled images, the best is taken, and
what was tried is said.

Where several are level, BatchNorm's records decide: they keep what the layers saw in training. Without any, the loss
does.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from toolchain.accuracy.chance import compare_with_chance
from toolchain.accuracy.diagnosis import ScoredModel, explain_chance
from toolchain.init.images import TRIED, InitImages, mean_and_std
from toolchain.init.normalizations import normalizations
from toolchain.init.trials import ImageTrial, TrialResult
from toolchain.models import LoadedModel
from toolchain.progress import track
from toolchain.records.tensors import Array, Preprocessing

FIRST, SIZED, KEPT = 64, 64, 4  # images for every normalization, for every size; normalizations for all images
SHOWN = 5
logger = logging.getLogger(__name__)
Named = tuple[str, Preprocessing]
Ranked = tuple[str, TrialResult]
HAIR = 1.1


@dataclass(frozen=True)
class InputChoice:
    """preprocessing: for [input]; name: of its normalization; lines: how it was found; doubt: what is wrong with it,
    '' where it was found out."""

    preprocessing: Preprocessing
    name: str
    lines: tuple[str, ...]
    doubt: str = ""


def search_input(loaded: LoadedModel, images: InitImages, sizes: Sequence[Preprocessing]) -> InputChoice:
    """The size of `sizes`, which the model takes, and the normalization under which it answers best."""
    trial = ImageTrial(loaded, images)
    size = sizes[0]
    ranked = _rank(trial, _candidates(loaded, images, size), FIRST)
    size_line = ""
    if len(sizes) > 1 and ranked[0][1].can_be_beaten:
        best = _best_size(trial, ranked[0][1].preprocessing, sizes)
        size_line = best[1]
        if best[0] != size:
            size = best[0]
            ranked = _rank(trial, _candidates(loaded, images, size), FIRST)
    names = dict(_candidates(loaded, images, size))
    final = _rank(trial, [(name, names[name]) for name, _ in ranked[:KEPT]], TRIED)
    name, chosen = final[0]
    others = ranked[KEPT:]
    return InputChoice(
        chosen.preprocessing,
        name,
        tuple(filter(None, (_describe(trial, final), _describe_others(others), size_line))),
        _find_doubt(trial, chosen),
    )


def measure_known(loaded: LoadedModel, images: InitImages, known: Preprocessing, said_by: str) -> InputChoice:
    """For an [input] that is recorded: nothing is tried, but what is right with it is measured."""
    trial = ImageTrial(loaded, images)
    result = trial.run(known, TRIED)
    line = f"{said_by}; {_figure(trial, result)}" if loaded.head_fits else said_by
    return InputChoice(known, said_by, (line,), _find_doubt(trial, result) if loaded.head_fits else "")


def _candidates(loaded: LoadedModel, images: InitImages, size: Preprocessing) -> list[Named]:
    named = list(normalizations(size, mean_and_std(images.fit_pixels(size, FIRST))))
    if loaded.onnx is not None and loaded.onnx.image.takes_bytes:  # its own normalization is in the graph
        return [(name, each) for name, each in named if name.startswith("0 to 1")]
    return named


def _rank(trial: ImageTrial, candidates: Sequence[Named], count: int) -> list[Ranked]:
    """The best first: of those that are not clearly below the most accurate, the one that BatchNorm's records fit
    best, or, without any, whose right answers are the surest; the rest by accuracy."""
    what = f"[input]: {len(candidates)} normalizations on {min(count, len(trial.images.places))} images"
    results = [(name, trial.run(each, count)) for name, each in track(candidates, what, len(candidates))]
    results.sort(key=lambda each: -each[1].accuracy)  # stable: the usual one of equals comes first
    level = [each for each in results if not each[1].is_clearly_below(results[0][1])]
    if all(result.divergence is not None for _, result in level):
        level = sort_level(level, lambda result: result.divergence or 0.0)
    elif all(result.loss is not None for _, result in level):
        level = sort_level(level, lambda result: result.loss or 0.0)
    names = {name for name, _ in level}
    return [*level, *(each for each in results if each[0] not in names)]


def sort_level(level: Sequence[Ranked], figure: Callable[[TrialResult], float]) -> list[Ranked]:
    """By a figure, the smallest first; but BGR, which is rare, must be better by more than a hair: where colours tell
    nothing of the classes, chance decides between the two."""
    ordered = sorted(level, key=lambda each: figure(each[1]))
    best = ordered[0][1]
    usual = msgspec.structs.replace(best.preprocessing, order="rgb")
    for each in ordered[1:]:
        if each[1].preprocessing == usual and figure(each[1]) <= HAIR * figure(best):
            return [each, *(other for other in ordered if other is not each)]
    return ordered


def _best_size(trial: ImageTrial, normal: Preprocessing, sizes: Sequence[Preprocessing]) -> tuple[Preprocessing, str]:
    """The first, unless another is clearly better; and what was tried."""
    keys = {key: getattr(normal, key) for key in ("mean", "std", "order", "scale")}
    options = [(size, msgspec.structs.replace(size, **keys)) for size in sizes if size.channels == normal.channels]
    tried = track(
        options, f"[input]: {len(options)} sizes on {min(SIZED, len(trial.images.places))} images", len(options)
    )
    results = [(size, trial.run(each, SIZED)) for size, each in tried]
    size, best = results[0]
    for other, result in results[1:]:
        if best.is_clearly_below(result):
            size, best = other, result
    shown = sorted(results, key=lambda each: -each[1].accuracy)[:SHOWN]
    line = ", ".join(f"{describe_size(each)} {result.accuracy:.1%}" for each, result in shown)
    return size, f"sizes tried: {line}" if len(results) > 1 else ""


def describe_size(size: Preprocessing) -> str:
    """`224x224 of 256`."""
    shown = f"{size.height}x{size.width}"
    return f"{shown} cut out of {size.resize}" if size.resize is not None else shown


def _figure(trial: ImageTrial, result: TrialResult) -> str:
    count = len(result.right)
    if trial.loaded.head_fits:
        return f"{result.accuracy:.1%} of {count} images right"
    return f"{result.accuracy:.1%} of {count} images have a nearest neighbour of their class"


def _describe(trial: ImageTrial, final: Sequence[Ranked]) -> str:
    name, chosen = final[0]
    others = ", ".join(f"{other} {result.accuracy:.1%}" for other, result in final[1:])
    why = ""
    if any(result.accuracy >= chosen.accuracy for _, result in final[1:]):
        why = "; of others as accurate, the right answers are less sure" if chosen.loss is not None else ""
        if chosen.divergence is not None:
            why = "; those within chance of it fit no better what its first BatchNorm layer saw in training"
            if chosen.preprocessing.order == "rgb" and chosen.divergence > min(r.divergence or 0.0 for _, r in final):
                why = "; BGR fits as well: check how training read its images (OpenCV gives BGR)"
    return f"{name}: {_figure(trial, chosen)}{f'; next: {others}' if others else ''}{why}"


def _describe_others(others: Sequence[Ranked]) -> str:
    if not others:
        return ""
    named = ", ".join(f"{name} {result.accuracy:.0%}" for name, result in others)
    return f"also tried, on {len(others[0][1].right)} images: {named}"


def _find_doubt(trial: ImageTrial, result: TrialResult) -> str:
    """Why what was found is not to be trusted."""
    loaded, labels = trial.loaded, trial.images.labels[: len(result.right)]
    if not loaded.head_fits:
        return ""
    classes = trial.images.data.classes

    def scores_of(other: Preprocessing, positions: Array) -> Array:
        return trial.run(other, len(labels)).scores[positions]

    subject = ScoredModel(result.scores, labels, classes, loaded.output, result.preprocessing, scores_of)
    if chance := explain_chance(subject):
        return chance.replace(" test images", " training images")
    found = compare_with_chance(loaded.output.decide(result.scores), labels)
    if found.tail > 0.01:
        return f"{found.accuracy:.1%} right, {found.chance:.1%} by chance: too few images to tell"
    return ""
