"""The properties of an NVIDIA GPU, and its clocks, power and times while a bundle was measured on it."""

import msgspec

Percentiles = tuple[float | None, float | None, float | None]


class GpuFigures(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """name, driver: as NVML reports them; None and () where it reports nothing, or nothing ran long enough to measure.

    Sampled ten times a second while LoadGen ran: clock_mhz of the multiprocessors, lowest and highest; power_w and
    temperature_c, highest; throttled: why clocks were reduced (NVML's clock event reasons except idling). Of single
    images, one after the other, timed by CUDA events: compute_ms, the computation alone; whole_ms, with the copies to
    and from the GPU; 50th, 90th and 99th percentile of `timed` inferences.
    """

    name: str
    driver: str
    capability: str
    memory_bytes: int
    max_clock_mhz: int | None = None
    power_limit_w: float | None = None
    clock_mhz: tuple[int, int] | None = None
    power_w: float | None = None
    temperature_c: int | None = None
    throttled: tuple[str, ...] = ()
    timed: int = 0
    compute_ms: Percentiles = (None, None, None)
    whole_ms: Percentiles = (None, None, None)
