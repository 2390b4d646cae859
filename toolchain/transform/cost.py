"""What a Preprocessing costs against the transform that it was found from: a model's answers by either, on real images
with labels.
"""

import msgspec
import numpy as np
from numpy.typing import NDArray

from toolchain.data import DataSet, Split
from toolchain.data.originals import original_image
from toolchain.models import LoadedModel
from toolchain.models.scores import Scores, model_scores
from toolchain.progress import track
from toolchain.records.output import match_decisions
from toolchain.records.tensors import Preprocessing
from toolchain.transform.colours import normalize
from toolchain.transform.user_transform import UserTransform

IMAGES, BATCH = 512, 32
PARTS = ("validate", "certify", "test", "train")  # the first that has images


class TransformCost(msgspec.Struct, frozen=True):
    """On `images` images of the split `part`. by_transform, by_input: accuracy, shares of 1, of the model on what the
    transform and what [input] makes of them, None without labels; changed: the share of answers that differ."""

    part: str
    images: int
    by_transform: float | None
    by_input: float | None
    changed: float

    @property
    def points(self) -> float:
        """What [input] loses, in percentage points; without labels at most."""
        if self.by_transform is None or self.by_input is None:
            return 100 * self.changed
        return 100 * (self.by_transform - self.by_input)


def measure_cost(
    model: LoadedModel, transform: UserTransform, data: DataSet, preprocessing: Preprocessing
) -> TransformCost:
    """data: fitted by `preprocessing`."""
    name = next(name for name in PARTS if name in data.splits and len(data.split(name)))
    part = data.split(name)
    places = np.linspace(0, len(part) - 1, min(IMAGES, len(part))).astype(np.int64)
    theirs, ours = [], []
    for at in track(range(0, len(places), BATCH), f"answers by {transform.name}", -(-len(places) // BATCH)):
        chunk = places[at : at + BATCH]
        theirs.append(model_scores(model, _by_transform(transform, part, chunk)))
        ours.append(model_scores(model, np.stack([normalize(image, preprocessing) for image in part.images[chunk]])))
    wanted, found = np.concatenate(theirs), np.concatenate(ours)
    answers = [model.output.decide(scores) for scores in (wanted, found)]
    by_transform, by_input = (
        float(match_decisions(each, part.labels[places]).mean()) if data.classes else None for each in answers
    )
    changed = 1 - float(match_decisions(*answers).mean())
    return TransformCost(name, len(places), by_transform, by_input, changed)


def _by_transform(transform: UserTransform, part: Split, places: NDArray[np.int64]) -> Scores:
    return np.stack([transform.apply(original_image(part.images, int(place))) for place in places])
