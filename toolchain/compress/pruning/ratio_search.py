"""Finds the pruning ratio that makes a model a given factor cheaper, by bisection over trial cuts that survive a kill.

Cost falls in steps as the ratio rises, since widths are rounded, and measured latency may even rise: the result is the
smallest ratio tried that reaches the target; a smaller one that was not tried may exist. Knows nothing of how a model
is cut or what is measured.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from torch import nn

from toolchain.compress.metrics import macs
from toolchain.compress.pruning.cut import PruningGraph, Widths
from toolchain.compress.step import StepContext
from toolchain.errors import RecipeError
from toolchain.records.storage import encode_record, write_atomically

PROBES_FILE = "probes.json"
CostFunction = Callable[
    [nn.Module], tuple[float, float]
]  # a cut model: how many times cheaper it is, and its latency_ms or 0


class RatioProbe(msgspec.Struct, frozen=True):
    """What the model would be at `ratio`. times: by what factor it is cheaper than before the step, in the target's
    unit; latency_ms: measured, or 0 where MACs are the target."""

    ratio: float
    macs: int
    times: float
    latency_ms: float = 0.0

    def entry(self) -> dict[str, float]:
        """The probe as an entry of a step's history."""
        figures: dict[str, float] = msgspec.structs.asdict(self)
        return figures if self.latency_ms else {key: figures[key] for key in ("ratio", "macs", "times")}


class SavedProbes(msgspec.Struct, frozen=True):
    """The probes of a search in a file. key: identifies the search."""

    key: str
    probes: tuple[RatioProbe, ...]


def make_probe(drawing: PruningGraph, cost: CostFunction, context: StepContext) -> Callable[[float], RatioProbe | None]:
    """A function that probes the model of `graph` at a ratio; it returns None where the model cannot be cut so far.
    Equal widths are cut and measured once."""
    probes: dict[Widths, RatioProbe] = {}

    def probe(ratio: float) -> RatioProbe | None:
        try:
            widths = drawing.widths_at(ratio)
        except RecipeError:
            return None
        if widths not in probes:
            cut = drawing.prune_to(widths)
            times, latency_ms = cost(cut)
            probes[widths] = RatioProbe(ratio, macs(cut, context.preprocessing), times, latency_ms)
        return msgspec.structs.replace(probes[widths], ratio=ratio)

    return probe


def bisect_ratio(probe_at: Callable[[float], RatioProbe | None], times: float, halvings: int) -> tuple[RatioProbe, ...]:
    """The probes of `halvings` ratios between 0 and 1. `probe_at` returns None for a ratio at which the model cannot be
    cut."""
    low, high, probes = 0.0, 1.0, list[RatioProbe]()
    for _ in range(halvings):
        ratio = (low + high) / 2
        probe = probe_at(ratio)
        if probe is not None:
            probes.append(probe)
        if probe is None or probe.times >= times:
            high = ratio
        else:
            low = ratio
    return tuple(probes)


def smallest_sufficient(probes: Sequence[RatioProbe], times: float) -> RatioProbe | None:
    """The probe of the smallest ratio that reaches `times`; None when none does."""
    return min((probe for probe in probes if probe.times >= times), key=lambda probe: probe.ratio, default=None)


def cache_probes(
    probe_at: Callable[[float], RatioProbe | None], folder: Path, depends_on: Sequence[object]
) -> Callable[[float], RatioProbe | None]:
    """`probe_at` with its probes saved in `folder` and reused by a resumed run: a latency measured again would differ
    and lead to another model. depends_on: everything that the probes depend on."""
    key = sha256(encode_record(list(depends_on))).hexdigest()
    known = {probe.ratio: probe for probe in _load_probes(folder / PROBES_FILE, key)}

    def cached_probe(ratio: float) -> RatioProbe | None:
        if ratio not in known:
            probe = probe_at(ratio)
            if probe is None:
                return None
            known[ratio] = probe
            write_atomically(folder / PROBES_FILE, encode_record(SavedProbes(key, tuple(known.values()))))
        return known[ratio]

    return cached_probe


def _load_probes(path: Path, key: str) -> tuple[RatioProbe, ...]:
    """The saved probes; none when there is no such file, or it belongs to another search or version."""
    if not path.is_file():
        return ()
    try:
        saved = msgspec.json.decode(path.read_bytes(), type=SavedProbes)
    except msgspec.MsgspecError:
        return ()
    return saved.probes if saved.key == key else ()
