"""The lines in which a build says what it sees in the data, and warns of what would make its figures worthless."""

import logging
from collections.abc import Iterator
from math import ceil

import msgspec

from toolchain.compress.options import TrainingOptions
from toolchain.data.overview import PARTS, DataOverview, overview_maker
from toolchain.job.job import BuildJob
from toolchain.job.stage import Stage
from toolchain.job.stage_cache import StageCache

logger = logging.getLogger(__name__)

FEW_UPDATES = 100  # of weights: a training of fewer hardly moves a net
NAMED = 8  # classes whose images are counted in a line


def report_data(job: BuildJob, cache: StageCache) -> None:
    """Log what the labelled data is, and what is odd about it."""
    if not job.data.classes:
        return

    inputs = {"data": job.data.sha256, "input": msgspec.to_builtins(job.recipe.input)}
    title = "data: classes, sizes, images in two splits"
    found = cache.run(Stage("data-overview", title, DataOverview, inputs, overview_maker(job.data))).record
    for line in data_lines(job, found):
        logger.info(line)
    for line in data_warnings(job, found):
        logger.warning(f"warning: {line}")


def data_lines(job: BuildJob, found: DataOverview) -> Iterator[str]:
    splits = ", ".join(f"{name} {found.images[name]:,}" for name in PARTS if name in found.images)
    yield f"  {len(job.data.classes)} classes, {sum(found.a_class):,} images: {splits}"
    yield f"  {job.data.division}"
    counted = list(zip(job.data.classes, found.a_class, strict=True))
    if len(counted) <= NAMED:
        yield "  images a class: " + ", ".join(f"{name} {count:,}" for name, count in counted)
    else:
        (few, fewest), (many, most) = (ends(counted, key=lambda each: each[1]) for ends in (min, max))
        span = f"{fewest:,} each" if fewest == most else f"{fewest:,} ({few}) to {most:,} ({many})"
        yield f"  images a class: {span}"
    smallest, largest = (f"{size[0]}x{size[1]}" for size in (found.smallest, found.largest))
    sizes = smallest if smallest == largest else f"{smallest} to {largest}"
    shape = job.recipe.input
    yield (
        f"  sizes {sizes}, {shape.height}x{shape.width}x{shape.channels} to the model; pixels (0 to 1): mean "
        f"{_numbers(found.mean)}, std {_numbers(found.std)}"
    )


def data_warnings(job: BuildJob, found: DataOverview) -> Iterator[str]:
    test = found.images.get("test", 0)
    if found.doubled:
        yield (
            f"{len(found.doubled)} of {test:,} test images are in another split too, byte for byte (the first: number "
            f"{job.data.split('test').indices[found.doubled[0]]}): the accuracy will look too good; remove them"
        )
    trained = job.recipe.model.weights != "random" and not job.replaces_head
    if trained and job.data.test_from_training:
        yield (
            "the test images are taken from the folder that the model may have been trained on: then its accuracy will "
            "look too good; name images that it has not seen test/"
        )
    allowed = job.recipe.build.max_accuracy_loss
    if test and allowed < 100 / test:
        yield (
            f"max_accuracy_loss = {allowed:g} points is less than one of {test} test images ({100 / test:.2g} points): "
            "one lost image refuses a candidate; give more test images, or allow more"
        )
    for number, (name, step) in enumerate(job.steps, 1):
        if isinstance(step, TrainingOptions):
            images = min(step.samples or found.images["train"], found.images["train"])
            updates = ceil(images / step.batch_size) * step.epochs
            if updates < FEW_UPDATES:
                yield (
                    f"step {number}, {name}: {step.epochs} epochs of {images:,} images in batches of "
                    f"{step.batch_size} are {updates} updates of the weights; expected some hundred: more epochs, or a "
                    "smaller batch"
                )


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
