"""Energy that this device took, where it tells: RAPL for Intel and AMD packages, NVML for the GPU that is used.

RAPL counts the whole package, everything that runs on it included. Linux lets only root read it since 5.10
(CVE-2020-8694) and virtual machines seldom have it: then the reason is told, and nothing is estimated.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from deploy.runtime.gpu import Gpu

POWERCAP = Path("/sys/class/powercap")
Counter = tuple[float | None, float]  # joules, and the value at which it begins again, or 0
Source = Callable[[], Counter]
Reading = tuple[Counter, ...]


class Meter:
    """joules() between two readings; `source`: by what, or why not. gpu: what the bundle runs on, if not the CPU."""

    def __init__(self, gpu: Gpu | None = None, powercap: Path = POWERCAP) -> None:
        packages, why = _packages(powercap)
        counted = gpu is not None and gpu.joules() is not None
        self._sources: list[Source] = list(packages)
        if gpu is not None and counted:
            self._sources.append(partial(_consumed, gpu))
        names = [f"RAPL, {len(packages)} package(s)"] * bool(packages) + ["NVML, 1 GPU"] * counted
        if gpu is not None and not counted:
            why = f"{why}; {gpu.name} has no energy counter"
        self.source = "; ".join(names) or f"not readable here: {why}"

    def read(self) -> Reading:
        return tuple(source() for source in self._sources)

    def joules(self, before: Reading) -> float | None:
        """Since `before`; None where one cannot be read. Right while no counter has begun again more than once."""
        total = 0.0
        for (now, around), (then, _) in zip(self.read(), before, strict=True):
            if now is None or then is None:
                return None
            total += now - then + (around if now < then else 0.0)
        return total if self._sources else None


def _packages(powercap: Path) -> tuple[list[Source], str]:
    folders = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if folder.name.count(":") == 1]
    if not folders:
        return [], "no RAPL counters (a virtual machine, or not Intel or AMD)"
    try:
        for folder in folders:
            _rapl(folder)
    except PermissionError:
        return [], "RAPL counters are for root alone"
    except (OSError, ValueError) as error:
        return [], f"RAPL counters cannot be read ({error})"
    return [partial(_rapl, folder) for folder in folders], ""


def _rapl(folder: Path) -> Counter:
    joules = int((folder / "energy_uj").read_text()) / 1e6
    return joules, int((folder / "max_energy_range_uj").read_text()) / 1e6


def _consumed(gpu: Gpu) -> Counter:
    return gpu.joules(), 0.0
