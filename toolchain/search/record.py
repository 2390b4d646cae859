"""What a search found, as a record: for the page, the plot and the last line of stdout. Computes nothing."""

import msgspec

from toolchain.records.manifest import StepRecord


class SearchPoint(msgspec.Struct, frozen=True):
    """A recipe as the search measured it. speedup: over the uncut net in the same run; loss, error: points on the
    validation split after `epochs`, and their standard error; foretold: what is expected after the longest training,
    with foretold_error where recipes enough were trained that long. loss None: not trained, `reason` says why."""

    trial: int
    what: str
    epochs: int
    speedup: float
    latency_ms: float
    size_bytes: int
    loss: float | None = None
    error: float = 0.0
    foretold: float | None = None
    foretold_error: float | None = None
    is_front: bool = False
    reason: str = ""


class SearchRow(msgspec.Struct, frozen=True):
    """A recipe of the front as it was built: all figures are the bundle's own, on the test split and on its engine;
    latency_ms and speedup are measured in turn with the other rows. searched_speedup: what the search had measured.
    loss: points of accuracy. absent: why there are no figures."""

    recipe: str
    what: str
    trial: int | None = None
    epochs: int = 0
    precision: str = ""
    speedup: float | None = None
    searched_speedup: float | None = None
    latency_ms: float | None = None
    accuracy: float | None = None
    loss: float | None = None
    size_bytes: int | None = None
    bundle: str = ""
    absent: str = ""


class SearchCost(msgspec.Struct, frozen=True):
    """hours: of this run; trained: recipes, and further trainings of them; untrained: cut and timed, and left out by
    that; impossible: could not be made; epochs: of training, over all runs. working: share of this run's time that
    went into cutting, timing and training."""

    hours: float
    hours_before: float
    trained: int
    trained_further: int
    untrained: int
    impossible: int
    epochs: int
    working: float


class SearchRecord(msgspec.Struct, frozen=True):
    """floor: points of accuracy that may be lost. baseline: the recipe's own model and steps, uncut. best: the fastest
    of `front` that meets the floor and is faster than the baseline. steps: what each step of it brought, as its build
    measured it."""

    name: str
    target: str
    floor: float
    measure: str
    baseline: SearchRow
    front: tuple[SearchRow, ...]
    best: SearchRow | None
    sentence: str
    steps: tuple[StepRecord, ...]
    points: tuple[SearchPoint, ...]
    left_out: tuple[str, ...]
    cost: SearchCost
    study: str
    storage: str
    folder: str
