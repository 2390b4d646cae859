"""The ratio at which a pruned net costs so many times less: bisection over trial cuts, kept where a kill finds them.

Knows nothing of how a net is cut or what is measured. Cost falls with the ratio in steps,
since widths are rounded, and measured latency may even rise: the answer is the smallest ratio tried that reaches the
target, and there may be a smaller one that was not tried.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import msgspec
from torch import nn

from toolchain.compress.metrics import macs
from toolchain.compress.pruning.cut import Drawing, Widths
from toolchain.compress.step import Context
from toolchain.errors import RecipeError
from toolchain.records.storage import encode_record, write_atomically

FILE = "probes.json"
Cost = Callable[[nn.Module], tuple[float, float]]  # a cut net: how many times cheaper it is, and its latency_ms or 0


class Probe(msgspec.Struct, frozen=True):
    """What the net would be at `ratio`. times: how many times less it costs than the net as it came, in what the target
    is about; latency_ms: measured, 0 where MACs are the target."""

    ratio: float
    macs: int
    times: float
    latency_ms: float = 0.0

    def entry(self) -> dict[str, float]:
        """For a step's history."""
        figures: dict[str, float] = msgspec.structs.asdict(self)
        return figures if self.latency_ms else {key: figures[key] for key in ("ratio", "macs", "times")}


class Kept(msgspec.Struct, frozen=True):
    """Probes in a file. key: what they were of."""

    key: str
    probes: tuple[Probe, ...]


def prober(drawing: Drawing, cost: Cost, context: Context) -> Callable[[float], Probe | None]:
    """What the net of `drawing` would be at a ratio; None where it cannot be cut so far. The same widths are cut and
    measured once."""
    seen: dict[Widths, Probe] = {}

    def tried(ratio: float) -> Probe | None:
        try:
            widths = drawing.widths_at(ratio)
        except RecipeError:
            return None
        if widths not in seen:
            cut = drawing.cut(widths)
            times, latency_ms = cost(cut)
            seen[widths] = Probe(ratio, macs(cut, context.preprocessing), times, latency_ms)
        return msgspec.structs.replace(seen[widths], ratio=ratio)

    return tried


def bisected(tried: Callable[[float], Probe | None], times: float, halvings: int) -> tuple[Probe, ...]:
    """The probes of `halvings` ratios between 0 and 1; None of `tried`: at that ratio the net cannot be cut."""
    low, high, probes = 0.0, 1.0, list[Probe]()
    for _ in range(halvings):
        ratio = (low + high) / 2
        probe = tried(ratio)
        if probe is not None:
            probes.append(probe)
        if probe is None or probe.times >= times:
            high = ratio
        else:
            low = ratio
    return tuple(probes)


def smallest(probes: Sequence[Probe], times: float) -> Probe | None:
    """The probe of the smallest ratio that reaches `times`; None when none does."""
    return min((probe for probe in probes if probe.times >= times), key=lambda probe: probe.ratio, default=None)


def remembered(
    tried: Callable[[float], Probe | None], folder: Path, depends: Sequence[object]
) -> Callable[[float], Probe | None]:
    """`tried`, its probes written into `folder` and taken from there by a run that goes on: a latency measured again
    would be another, and lead to another net. depends: everything that they depend on."""
    key = sha256(encode_record(list(depends))).hexdigest()
    known = {probe.ratio: probe for probe in _read(folder / FILE, key)}

    def recalled(ratio: float) -> Probe | None:
        if ratio not in known:
            probe = tried(ratio)
            if probe is None:
                return None
            known[ratio] = probe
            write_atomically(folder / FILE, encode_record(Kept(key, tuple(known.values()))))
        return known[ratio]

    return recalled


def _read(path: Path, key: str) -> tuple[Probe, ...]:
    """Nothing where there is no such file, or it is of another search or version."""
    if not path.is_file():
        return ()
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Kept)
    except msgspec.MsgspecError:
        return ()
    return found.probes if found.key == key else ()
