"""The NVIDIA GPU of this container, by NVML: name, driver, clocks, power, temperature, throttling, energy.

Uses nvidia-ml-py, which only the GPU image has; the driver provides the library. Values that a GPU does not report
(some have no energy counter, virtual ones no power) are None. Clocks are locked on the host, never here.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from threading import Event, Thread
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgspec

from toolchain.records.gpu import GpuFigures

EVERY_S = 0.1
IDLE = "GpuIdle"  # waits for work; not a reason of throttling
REASON = "nvmlClocksEventReason"


class GpuState(NamedTuple):
    """The GPU at one moment."""

    clock_mhz: int | None
    power_w: float | None
    temperature_c: int | None
    throttled: frozenset[str]


class Gpu:
    """A GPU by its PCI address, or the first. library: the initialized module pynvml, or a test's substitute."""

    def __init__(self, library: Any, bus: str = "") -> None:
        self._nvml = library
        self._handle = (
            library.nvmlDeviceGetHandleByPciBusId(bus.encode()) if bus else library.nvmlDeviceGetHandleByIndex(0)
        )

    @property
    def name(self) -> str:
        return str(self._nvml.nvmlDeviceGetName(self._handle))

    @property
    def driver(self) -> str:
        return str(self._nvml.nvmlSystemGetDriverVersion())

    def figures(self) -> GpuFigures:
        """What the GPU is, without measurements."""
        nvml, limit = self._nvml, self._query("nvmlDeviceGetEnforcedPowerLimit")
        capability = self._query("nvmlDeviceGetCudaComputeCapability")
        memory = self._query("nvmlDeviceGetMemoryInfo")
        return GpuFigures(
            name=self.name,
            driver=self.driver,
            capability=".".join(map(str, capability or ())),
            memory_bytes=int(memory.total) if memory else 0,
            max_clock_mhz=self._query("nvmlDeviceGetMaxClockInfo", nvml.NVML_CLOCK_SM),
            power_limit_w=None if limit is None else limit / 1e3,
        )

    def state(self) -> GpuState:
        nvml, power = self._nvml, self._query("nvmlDeviceGetPowerUsage")
        return GpuState(
            self._query("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            None if power is None else power / 1e3,
            self._query("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            self._reasons(self._query("nvmlDeviceGetCurrentClocksEventReasons") or 0),
        )

    def read_joules(self) -> float | None:
        """Energy since the driver was loaded (Volta or newer)."""
        found = self._query("nvmlDeviceGetTotalEnergyConsumption")
        return None if found is None else found / 1e3

    def _reasons(self, flags: int) -> frozenset[str]:
        known = {name.removeprefix(REASON): getattr(self._nvml, name) for name in dir(self._nvml) if REASON in name}
        return frozenset(name for name, bit in known.items() if bit.bit_count() == 1 and flags & bit)

    def _query(self, call: str, *arguments: Any) -> Any:
        """The value; None where this GPU or driver does not report it."""
        try:
            return getattr(self._nvml, call)(self._handle, *arguments)
        except self._nvml.NVMLError:
            return None


def find_gpu(bus: str = "") -> Gpu | None:
    """The GPU at this PCI address, or the first; None where NVML is missing or finds none."""
    try:
        library = import_module("pynvml")
    except ImportError:
        return None
    with suppress(library.NVMLError):
        library.nvmlInit()
        return Gpu(library, bus)
    return None


class GpuMonitor:
    """Samples a GPU's state while its block runs."""

    def __init__(self, watched: Gpu) -> None:
        self._gpu, self._end = watched, Event()
        self._states: list[GpuState] = []
        self._thread = Thread(target=self._sample, name="gpu-watch", daemon=True)

    def _sample(self) -> None:
        while True:
            self._states.append(self._gpu.state())
            if self._end.wait(EVERY_S):
                return

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def figures(self) -> GpuFigures:
        """After the block: what the GPU is, and what it did meanwhile."""
        clocks = self._values(lambda state: None if IDLE in state.throttled else state.clock_mhz)
        return msgspec.structs.replace(
            self._gpu.figures(),
            clock_mhz=(int(min(clocks)), int(max(clocks))) if clocks else None,
            power_w=max(self._values(lambda state: state.power_w), default=None),
            temperature_c=max(map(int, self._values(lambda state: state.temperature_c)), default=None),
            throttled=tuple(sorted({reason for state in self._states for reason in state.throttled} - {IDLE})),
        )

    def _values(self, of: Callable[[GpuState], float | None]) -> list[float]:
        return [found for state in self._states if (found := of(state)) is not None]
