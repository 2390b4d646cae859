"""What a device is, as far as its speed and its numerics depend on it."""

import msgspec


class Fingerprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Empty strings and None stand for 'could not be read here'."""

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
