"""What a build saw, as the report's tables and images. Computes nothing but shares and differences."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from toolchain.accuracy.kept import KeptEvaluation, ReleaseQuality
from toolchain.accuracy.quality import Quality
from toolchain.tables import Draw, table

CONFUSIONS = 10
PRECISION_FIRST = "fp32"


class ReportImage(NamedTuple):
    """source: a data URI; words: what a reader is told of it."""

    source: str
    words: str


class SheetRow(NamedTuple):
    name: str
    images: tuple[ReportImage, ...]


def before_and_after(record: ReleaseQuality) -> tuple[tuple[str, Quality], ...]:
    """fp32 and what serves; where that is fp32 too, the precision that was measured beside it. None for a release whose
    test images have no labels."""
    known = record.precisions
    first = PRECISION_FIRST if PRECISION_FIRST in known else next(iter(known), "")
    others = sorted((name for name in known if name != first), key=lambda name: (name != record.chosen, name != "int8"))
    return tuple((name, known[name]) for name in (first, *others[:1]) if name)


def classes_table(seen: KeptEvaluation, draw: Draw = table) -> str:
    """A row for each class, the worst of the serving precision first."""
    pairs, names = before_and_after(seen.record), seen.record.classes
    if not pairs:
        return ""
    after = pairs[-1][1]
    order = sorted(range(len(after.classes)), key=lambda at: (after.classes[at].recall is None, _recall(after, at)))
    rows = [
        (
            names[at],
            after.classes[at].images,
            *(quality.classes[at].recall for _, quality in pairs),
            *([100 * (_recall(after, at) - _recall(pairs[0][1], at))] if len(pairs) > 1 else []),
            after.classes[at].precision,
        )
        for at in order
    ]
    found = {f"found by {name}": ".1%" for name, _ in pairs}
    points = {"difference, points": "+.1f"} if len(pairs) > 1 else {}
    return draw(rows, {"class": "", "images": "d", **found, **points, f"right when {pairs[-1][0]} says it": ".1%"})


def _recall(quality: Quality, at: int) -> float:
    return quality.classes[at].recall or 0.0


def confusions_table(seen: KeptEvaluation, draw: Draw = table) -> str:
    """The pairs of classes that are confused most by the serving precision; '' where none is."""
    quality, names = seen.record.precisions.get(seen.record.chosen), seen.record.classes
    wrong = sorted((pair for pair in (quality.confusion if quality else ()) if pair[0] != pair[1]), key=lambda p: -p[2])
    if not quality or not wrong:
        return ""
    rows = [
        (names[true], names[predicted], images, images / quality.classes[true].images)
        for true, predicted, images in wrong[:CONFUSIONS]
    ]
    return draw(rows, {"true": "", "taken for": "", "images": "d", "of that class": ".1%"})


def counts_table(seen: KeptEvaluation, draw: Draw = table) -> str:
    """Images of each class by split."""
    counts = seen.record.counts
    if not any(map(any, counts.values())):
        return ""
    rows = [(name, *(each[at] for each in counts.values())) for at, name in enumerate(seen.record.classes)]
    return draw([*rows, ("all", *map(sum, counts.values()))], {"class": "", **dict.fromkeys(counts, ",d")})


def calibration_sentence(seen: KeptEvaluation) -> str:
    """How sure each precision is, in a line; '' where the model gives no probabilities."""
    known = [(name, quality.ece) for name, quality in before_and_after(seen.record) if quality.ece is not None]
    if not known:
        return ""
    errors = ", ".join(f"{100 * error:.2f} % in {name}" for name, error in known)
    return f"Expected calibration error (15 bins): {errors}. 0 % is a model that is right as often as it is sure."


def mistake_images(seen: KeptEvaluation) -> tuple[ReportImage, ...]:
    """The serving precision's most confident mistakes."""
    record = seen.record
    quality = record.precisions.get(record.chosen)
    if quality is None:
        return ()
    images = []
    for mistake, file in zip(quality.mistakes, record.mistakes, strict=False):
        true = ", ".join(record.classes[at] for at in mistake.true) or "none"
        sure = "" if mistake.confidence is None else f" at {mistake.confidence:.0%}"
        has = "says" if mistake.predicted not in mistake.true or len(mistake.true) == 1 else "misses"
        images.append(ReportImage(_data_uri(seen, file), f"{has} {record.classes[mistake.predicted]}{sure}; is {true}"))
    return tuple(images)


def contact_sheet(seen: KeptEvaluation) -> tuple[SheetRow, ...]:
    """Some images of each class."""

    def rows() -> Iterator[SheetRow]:
        for label, images in groupby(seen.record.sheet, key=lambda image: image.label):
            name = "images" if label is None else _name(seen.record.classes, label)
            yield SheetRow(name, tuple(ReportImage(_data_uri(seen, image.file), name) for image in images))

    return tuple(rows())


def _name(classes: Sequence[str], label: int) -> str:
    return classes[label] if label < len(classes) else f"class {label}"


def _data_uri(seen: KeptEvaluation, file: str) -> str:
    kind = "png" if file.endswith(".png") else "jpeg"
    return f"data:image/{kind};base64,{b64encode(seen.read_image(file)).decode()}"
