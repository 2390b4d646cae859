"""Energy used by this device, where it can be read: RAPL for Intel and AMD packages, NVML for the GPU in use.

RAPL counts the whole package with everything that runs on it. Since 5.10 Linux lets only root read it (CVE-2020-8694),
and virtual machines seldom have it: then the reason is reported, and nothing is estimated.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from deploy.runtime.device.gpu import Gpu
from deploy.runtime.metrics import Family

POWERCAP = Path("/sys/class/powercap")
EnergyCounter = tuple[float | None, float]  # joules, and the value at which the counter wraps around, or 0
Reading = tuple[EnergyCounter, ...]


class EnergySource(NamedTuple):
    """api: rapl or nvml; domain: the part of the machine, by that API's name."""

    api: str
    domain: str
    read: Callable[[], EnergyCounter]


class EnergyMeter:
    """joules_since() a reading; source: what is read, or why nothing is. gpu: the one that the bundle runs on, if
    any."""

    def __init__(self, gpu: Gpu | None = None, powercap: Path = POWERCAP) -> None:
        packages, why = _rapl_sources(powercap)
        counted = gpu is not None and gpu.read_joules() is not None
        self.sources: list[EnergySource] = list(packages)
        if gpu is not None and counted:
            self.sources.append(EnergySource("nvml", gpu.name, partial(_gpu_counter, gpu)))
        names = [f"RAPL, {len(packages)} package(s)"] * bool(packages) + ["NVML, 1 GPU"] * counted
        if gpu is not None and not counted:
            why = f"{why}; {gpu.name} has no energy counter"
        self.source = "; ".join(names) or f"not readable here: {why}"

    def read(self) -> Reading:
        return tuple(source.read() for source in self.sources)

    def joules_since(self, before: Reading) -> float | None:
        """Joules since `before`; None where a source cannot be read. Correct while no counter has wrapped more than
        once."""
        parts = [_difference(then, now) for then, now in zip(before, self.read(), strict=True)]
        return sum(part for part in parts if part is not None) if parts and None not in parts else None


class EnergyTotals:
    """Joules of each source since this was created, as a Prometheus counter; correct while it is scraped at least once
    per wrap-around of the source's own counter (every 20 minutes at 200 W, at the earliest)."""

    def __init__(self, meter: EnergyMeter) -> None:
        self._meter, self._last = meter, meter.read()
        self._joules = [0.0] * len(self._last)

    def families(self) -> Iterator[Family]:
        """No family where nothing is readable; no sample for a source that cannot be read just now."""
        now, samples = self._meter.read(), list[tuple[Mapping[str, str], float]]()
        for at, source in enumerate(self._meter.sources):
            if (more := _difference(self._last[at], now[at])) is not None:
                self._joules[at] += more
                samples.append(({"source": source.api, "domain": source.domain}, self._joules[at]))
        self._last = tuple(then if one[0] is None else one for then, one in zip(self._last, now, strict=True))
        if samples:
            yield Family("edge_energy_joules_total", "counter", "Energy used since the server was ready.", samples)


def _difference(before: EnergyCounter, after: EnergyCounter) -> float | None:
    (then, _), (now, around) = before, after
    return None if now is None or then is None else now - then + ((around or then) if now < then else 0.0)


def _rapl_sources(powercap: Path) -> tuple[list[EnergySource], str]:
    folders = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if folder.name.count(":") == 1]
    folders = [folder for folder in folders if _name(folder) != "psys"]  # the whole platform, packages included
    if not folders:
        return [], "no RAPL counters (a virtual machine, or not Intel or AMD)"
    try:
        for folder in folders:
            _read_rapl(folder)
    except PermissionError:
        return [], "only root may read RAPL counters"
    except (OSError, ValueError) as error:
        return [], f"RAPL counters cannot be read ({error})"
    return [EnergySource("rapl", _name(folder), partial(_rapl_counter, folder)) for folder in folders], ""


def _name(folder: Path) -> str:
    """The kernel's name, such as `package-0`."""
    file = folder / "name"
    return file.read_text().strip() if file.is_file() else folder.name


def _rapl_counter(folder: Path) -> EnergyCounter:
    """None where it is no longer readable."""
    try:
        return _read_rapl(folder)
    except (OSError, ValueError):
        return None, 0.0


def _read_rapl(folder: Path) -> EnergyCounter:
    joules = int((folder / "energy_uj").read_text()) / 1e6
    return joules, int((folder / "max_energy_range_uj").read_text()) / 1e6


def _gpu_counter(gpu: Gpu) -> EnergyCounter:
    return gpu.read_joules(), 0.0
