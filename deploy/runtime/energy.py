"""Energy that this device took, where it tells: RAPL for Intel and AMD packages, NVML for NVIDIA's GPUs.

RAPL counts the whole package, everything that runs on it included. Linux lets only root read it since 5.10
(CVE-2020-8694) and virtual machines seldom have it: then the reason is told, and nothing is estimated.
"""

import ctypes
from collections.abc import Callable
from functools import partial
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
NVML = "libnvidia-ml.so.1"
Reading = tuple[tuple[float, float], ...]  # (joules, the value at which the counter begins again, or 0) by source


class Meter:
    """joules() between two readings; `source`: by what, or why not."""

    def __init__(self, powercap: Path = POWERCAP, nvml: str = NVML) -> None:
        packages, why = _packages(powercap)
        gpus = _gpus(nvml)
        self._sources: list[Callable[[], tuple[float, float]]] = [*packages, *gpus]
        names = [f"RAPL, {len(packages)} package(s)"] * bool(packages) + [f"NVML, {len(gpus)} GPU(s)"] * bool(gpus)
        self.source = "; ".join(names) or f"not readable here: {why}"

    @property
    def readable(self) -> bool:
        return bool(self._sources)

    def read(self) -> Reading:
        return tuple(source() for source in self._sources)

    def joules(self, before: Reading) -> float | None:
        """Since `before`; None where nothing can be read. Right while no counter has begun again more than once."""
        if not self._sources:
            return None
        return sum(
            now - then + (around if now < then else 0.0)
            for (now, around), (then, _) in zip(self.read(), before, strict=True)
        )


def _packages(powercap: Path) -> tuple[list[Callable[[], tuple[float, float]]], str]:
    folders = [folder for folder in sorted(powercap.glob("intel-rapl:*")) if folder.name.count(":") == 1]
    if not folders:
        return [], "no RAPL counters (a virtual machine, or not Intel or AMD), no NVML"
    try:
        for folder in folders:
            _rapl(folder)
    except PermissionError:
        return [], "RAPL counters are for root alone; no NVML"
    except (OSError, ValueError) as error:
        return [], f"RAPL counters cannot be read ({error}); no NVML"
    return [partial(_rapl, folder) for folder in folders], ""


def _rapl(folder: Path) -> tuple[float, float]:
    joules = int((folder / "energy_uj").read_text()) / 1e6
    return joules, int((folder / "max_energy_range_uj").read_text()) / 1e6


def _gpus(nvml: str) -> list[Callable[[], tuple[float, float]]]:
    try:
        library = ctypes.CDLL(nvml)
        if library.nvmlInit_v2():
            return []
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    except (OSError, AttributeError):
        return []
    handles = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if (
            not library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle))
            and _millijoules(library, handle) >= 0
        ):
            handles.append(handle)
    return [partial(_consumed, library, handle) for handle in handles]


def _consumed(library: ctypes.CDLL, handle: ctypes.c_void_p) -> tuple[float, float]:
    return _millijoules(library, handle) / 1e3, 0.0


def _millijoules(library: ctypes.CDLL, handle: ctypes.c_void_p) -> int:
    """nvmlDeviceGetTotalEnergyConsumption (Volta or newer); -1 where it has none."""
    found = ctypes.c_ulonglong()
    failed = library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(found))
    return -1 if failed else found.value
