"""The properties of a device on which speed and numerical results depend."""

import msgspec


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Empty strings, None and 0 mean 'could not be read on this device'.

    cpuset: the CPUs that may be used, in the kernel's list format (0-3,8). turbo: on or off. clock_mhz: the highest
    permitted clock, not the current one.
    """

    architecture: str
    cpu_model: str
    cpu_isa: tuple[str, ...]
    cores: int
    cpus_allowed: int
    cpu_quota: float | None
    governor: str
    kernel: str
    hypervisor: bool
    memory_bytes: int
    memory_limit_bytes: int | None
    gpu: str = ""
    gpu_driver: str = ""
    microcode: str = ""
    numa_nodes: int = 0
    cpuset: str = ""
    turbo: str = ""
    clock_mhz: float | None = None
