"""What NVML tells, played: a driver that answers, one that does not tell everything, and none."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploy.runtime.device.energy import EnergyMeter, EnergyTotals
from deploy.runtime.device.gpu import Gpu, GpuMonitor, find_gpu
from deploy.runtime.http.prometheus import metrics_text


class NVMLError(Exception):
    pass


class FakeNvml:
    """states: (clock, milliwatts, degrees, reasons), one a reading, the last for ever."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0
    nvmlClocksEventReasonGpuIdle = 1
    nvmlClocksEventReasonSwPowerCap = 4
    nvmlClocksEventReasonHwThermalSlowdown = 64
    nvmlClocksEventReasonAll = 69

    def __init__(self, *states: tuple[int, int, int, int], untold: tuple[str, ...] = ()) -> None:
        self.states, self.untold, self.millijoules = list(states), untold, 0

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvmlDevice") and name in object.__getattribute__(self, "untold"):

            def fails(*_: object) -> None:
                raise NVMLError

            return fails
        return object.__getattribute__(self, name)

    def nvmlInit(self) -> None:
        if not self.states:
            raise NVMLError

    def nvmlDeviceGetHandleByPciBusId(self, bus: bytes) -> str:
        return bus.decode()

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return str(index)

    def nvmlDeviceGetName(self, _: str) -> str:
        return "NVIDIA RTX A6000"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "580.95.05"

    def nvmlDeviceGetCudaComputeCapability(self, _: str) -> tuple[int, int]:
        return 8, 6

    def nvmlDeviceGetMemoryInfo(self, _: str) -> SimpleNamespace:
        return SimpleNamespace(total=48 << 30)

    def nvmlDeviceGetMaxClockInfo(self, _: str, kind: int) -> int:
        return {1: 2100}[kind]

    def nvmlDeviceGetEnforcedPowerLimit(self, _: str) -> int:
        return 300_000

    def nvmlDeviceGetClockInfo(self, _: str, kind: int) -> int:
        assert kind == self.NVML_CLOCK_SM
        return self.states[0][0]

    def nvmlDeviceGetPowerUsage(self, _: str) -> int:
        return self.states[0][1]

    def nvmlDeviceGetTemperature(self, _: str, _kind: int) -> int:
        return self.states[0][2]

    def nvmlDeviceGetCurrentClocksEventReasons(self, _: str) -> int:
        return self.states.pop(0)[3] if len(self.states) > 1 else self.states[0][3]

    def nvmlDeviceGetTotalEnergyConsumption(self, _: str) -> int:
        return self.millijoules


def test_what_the_gpu_did_is_told_and_idling_is_no_throttling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.runtime.device.gpu.EVERY_S", 0.001)
    nvml = FakeNvml((210, 20_000, 40, 1), (1800, 290_000, 71, 4), (1500, 299_000, 83, 64 | 4), (1700, 250_000, 80, 0))
    with GpuMonitor(Gpu(nvml, "00000000:65:00.0")) as watch:
        while len(nvml.states) > 1:
            time.sleep(0.002)
    found = watch.figures()
    assert (found.name, found.driver, found.capability) == ("NVIDIA RTX A6000", "580.95.05", "8.6")
    assert (found.memory_bytes, found.max_clock_mhz, found.power_limit_w) == (48 << 30, 2100, 300.0)
    assert found.clock_mhz == (1500, 1800)  # not the 210 MHz of waiting
    assert (found.power_w, found.temperature_c) == (299.0, 83)
    assert found.throttled == ("HwThermalSlowdown", "SwPowerCap")


def test_what_a_gpu_does_not_tell_is_none_and_not_nought() -> None:
    untold = ("nvmlDeviceGetPowerUsage", "nvmlDeviceGetClockInfo", "nvmlDeviceGetEnforcedPowerLimit")
    nvml = FakeNvml((0, 0, 50, 0), untold=(*untold, "nvmlDeviceGetTotalEnergyConsumption"))
    with GpuMonitor(Gpu(nvml)) as watch:
        pass
    found = watch.figures()
    assert (found.clock_mhz, found.power_w, found.power_limit_w, found.temperature_c) == (None, None, None, 50)
    meter = EnergyMeter(Gpu(nvml))
    assert meter.joules_since(meter.read()) is None or "RAPL" in meter.source
    assert "NVIDIA RTX A6000 has no energy counter" in meter.source or "RAPL" in meter.source


def test_energy_of_the_gpu_is_counted_beside_the_processors(tmp_path: Path) -> None:
    nvml = FakeNvml((1800, 1, 1, 0))
    meter = EnergyMeter(Gpu(nvml), powercap=tmp_path)
    before = meter.read()
    totals = EnergyTotals(meter)
    nvml.millijoules = 2500
    assert meter.joules_since(before) == pytest.approx(2.5)
    assert '{domain="NVIDIA RTX A6000",source="nvml"} 2.5\n' in metrics_text(totals.families()).decode()
    assert meter.source == "NVML, 1 GPU"


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    assert find_gpu() is None
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml((1, 1, 1, 0)))
    found = find_gpu("00000000:65:00.0")
    assert found is not None
    assert found.name == "NVIDIA RTX A6000"
