"""What a device is, as far as its speed and its numerics depend on it."""

import msgspec


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Empty strings, None and 0 stand for 'could not be read here'.

    cpuset: the CPUs that may be used, as the kernel lists them (0-3,8). turbo: on or off. clock_mhz: the highest that
    the CPU may run at, not what it runs at now.
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
