"""This device: what its speed and its numerics depend on, how many threads it gives us, what it lacks.

Knows nothing about models. Every function takes the folder that stands for `/`, so that recorded trees can be read in
tests. What cannot be read here is told as "", 0 or None, as Fingerprint says.
"""

import os
import platform
import subprocess
from math import floor
from pathlib import Path
from shutil import which

from deploy.runtime.device.cgroup import ROOT, cpu_quota, memory_limit_bytes, read
from toolchain.errors import DeviceError
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.manifest import Needs

# What engines choose their kernels by, as Linux spells it; the last two lines are ARM's.
ISA = (
    *("sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw", "avx512dq"),
    *("avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "fphp", "i8mm", "bf16"),
    *("sve", "sve2", "svei8mm", "svebf16", "sme"),
)
_AVX2 = ("sse4_2", "avx", "f16c", "fma", "avx2")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl")
_FP16 = (*_AVX512, "avx512_vnni", "avx512_bf16", "avx_vnni", "avx512_fp16")
_AMX = (*_FP16, "amx_tile", "amx_int8", "amx_bf16")
CAPS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the first that is set counts
# What a cap leaves to oneDNN, whose kernels are OpenVINO's and torch's (its guide, "CPU Dispatcher Control"). A value
# that is not here leaves all, as oneDNN does with one that it does not know.
LEFT_BY = {
    "SSE41": ("sse4_2",),
    "AVX": ("sse4_2", "avx"),
    "AVX2": _AVX2,
    "AVX2_VNNI": (*_AVX2, "avx_vnni"),
    "AVX2_VNNI_2": (*_AVX2, "avx_vnni", "avx_vnni_int8"),
    "AVX512_CORE": _AVX512,
    "AVX512_CORE_VNNI": (*_AVX512, "avx512_vnni"),
    "AVX512_CORE_BF16": (*_AVX512, "avx512_vnni", "avx512_bf16"),
    "AVX512_CORE_FP16": _FP16,
    "AVX10_1_512": _FP16,
    "AVX512_CORE_AMX": _AMX,
    "AVX10_1_512_AMX": _AMX,
}


def fingerprint(root: Path = ROOT) -> Fingerprint:
    """What this device is; a few milliseconds (tens where nvidia-smi must be asked)."""
    processors = cpuinfo(root)
    gpu, driver = gpu_and_driver(root)
    return Fingerprint(
        architecture=platform.machine(),
        cpu_model=_cpu_model(processors),
        cpu_isa=_cpu_isa(processors),
        cores=len(processors),
        cpus_allowed=cpus_allowed(root),
        cpu_quota=cpu_quota(root),
        governor=_governor(root),
        kernel=read(root / "proc/sys/kernel/osrelease"),
        hypervisor="hypervisor" in _flags(processors),
        memory_bytes=_memory_bytes(root),
        memory_limit_bytes=memory_limit_bytes(root),
        gpu=gpu,
        gpu_driver=driver,
        microcode=processors[0].get("microcode", "") if processors else "",
        numa_nodes=len(list(root.glob("sys/devices/system/node/node[0-9]*"))),
        cpuset=cpuset(root),
        turbo=_turbo(root),
        clock_mhz=_clock_mhz(root),
    )


def cpu_isa(root: Path = ROOT) -> tuple[str, ...]:
    """The instruction sets that engines may use here: those that every CPU has, less what oneDNN is kept from."""
    return _cpu_isa(cpuinfo(root))


def cpu_model(root: Path = ROOT) -> str:
    """The model's name, and what keeps engines from some of its instructions."""
    return _cpu_model(cpuinfo(root))


def default_threads(root: Path = ROOT) -> int:
    """Threads that an engine should use: what affinity and quota allow, the quota rounded down but never to 0.

    Rounded down, because threads beyond the quota spend a part of every period throttled, all of them at once.
    """
    quota = cpu_quota(root)
    allowed = cpus_allowed(root)
    return max(1, allowed if quota is None else min(allowed, floor(quota)))


def missing_needs(needs: Needs, known_device: Fingerprint | None = None) -> str | None:
    """A sentence that names what this device (or `found`) lacks of what a bundle needs; None when it has it all."""
    device = known_device or fingerprint()
    if needs.architecture != device.architecture:
        return (
            f"the bundle is for {needs.architecture}, this device is {device.architecture or 'unknown'}; "
            "build it there: toolchain build RECIPE --target=TARGET"
        )
    lacking = [name for name in needs.cpu_isa if name not in device.cpu_isa]
    if not lacking:
        return _missing_gpu(needs) if needs.gpu else None
    return (
        f"this device's CPU ({device.cpu_model or 'unknown model'}) lacks {', '.join(lacking)}, which the bundle "
        "needs; build the bundle on such a device: toolchain build RECIPE"
    )


def _missing_gpu(needs: Needs) -> str | None:
    from deploy.runtime.device.cuda import Cuda

    try:
        cuda = Cuda()
        cuda.check_device()
        here = cuda.capability
    except DeviceError as error:
        return str(error)
    if not needs.compute_capabilities or here in needs.compute_capabilities:
        return None
    built = ", ".join(f"{one / 10:.1f}" for one in needs.compute_capabilities)
    return (
        f"this GPU ({gpu_and_driver()[0] or 'unknown'}) has compute capability {here / 10:.1f}, the bundle is for "
        f"{built}; name it in the recipe, [target.tensorrt] compute_capabilities = [{here}], and build again"
    )


def cpuinfo(root: Path = ROOT) -> tuple[dict[str, str], ...]:
    """/proc/cpuinfo: a dict for each logical CPU that is online."""
    blocks = read(root / "proc/cpuinfo").split("\n\n")
    parsed = [
        {
            key.strip(): value.strip()
            for key, colon, value in (line.partition(":") for line in block.splitlines())
            if colon
        }
        for block in blocks
    ]
    return tuple(block for block in parsed if "processor" in block)


def cpus_allowed(root: Path = ROOT) -> int:
    """CPUs that this process may run on (affinity, cpusets)."""
    listed = cpuset(root)
    return sum(map(_length, listed.split(","))) if listed else len(os.sched_getaffinity(0))


def cpuset(root: Path = ROOT) -> str:
    """The kernel's list of CPUs that this process may run on, such as `0-3,8`."""
    lines = read(root / "proc/self/status").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Cpus_allowed_list:")), "")


def gpu_and_driver(root: Path = ROOT) -> tuple[str, str]:
    """Names of the NVIDIA GPUs and the driver's version, from the driver's own files, else from nvidia-smi."""
    models = [
        line.partition(":")[2].strip()
        for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))
        for line in read(path).splitlines()
        if line.startswith("Model:")
    ]
    # NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 ...
    words = read(root / "proc/driver/nvidia/version").partition("\n")[0].split()
    driver = next((word for word in words if word[0].isdigit() and "." in word), "")
    if models or driver or root != ROOT:
        return ", ".join(models), driver
    return _query_nvidia_smi()


def _query_nvidia_smi() -> tuple[str, str]:
    command = which("nvidia-smi")
    if command is None:
        return "", ""
    query = [command, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return "", ""  # installed, but no GPU or no driver answers
    rows = [tuple(part.strip() for part in line.rsplit(",", 1)) for line in answer.splitlines() if "," in line]
    return ", ".join(row[0] for row in rows), rows[0][1] if rows else ""


def _flags(processors: tuple[dict[str, str], ...]) -> frozenset[str]:
    """Features that every CPU has: cores may differ, and a thread may run on any."""
    sets = [set(block.get("flags", block.get("Features", "")).split()) for block in processors]
    return frozenset(set.intersection(*sets)) if sets else frozenset()


def _cpu_isa(processors: tuple[dict[str, str], ...]) -> tuple[str, ...]:
    """OpenVINO cannot be asked: its list of abilities names BF16 under a cap of AVX2 too. ONNX Runtime heeds no cap:
    under one it has more than is told here."""
    flags, left = _flags(processors), LEFT_BY.get(_cap()[1], ISA)
    return tuple(name for name in ISA if name in flags and name in left)


def _cap() -> tuple[str, str]:
    """The variable that holds oneDNN back, and the level that it holds it to; ("", "") where there is none."""
    given = ((name, os.environ.get(name, "").upper()) for name in CAPS)
    return next(((name, level) for name, level in given if level), ("", ""))


def _cpu_model(processors: tuple[dict[str, str], ...]) -> str:
    """The model's name; on ARM, which has none there, implementer and part. And the cap, where there is one."""
    if not processors:
        return ""
    first, (variable, level) = processors[0], _cap()
    name = first.get("model name", "")
    if "CPU part" in first:
        name = f"ARM implementer {first.get('CPU implementer', '?')} part {first['CPU part']}"
    return f"{name}, held to {level} by {variable}" if level in LEFT_BY else name


def _governor(root: Path) -> str:
    paths = root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({text for path in paths if (text := read(path))}))


def _turbo(root: Path) -> str:
    """Whether clocks may rise above the nominal one (kernel documentation, admin-guide/pm: intel_pstate, cpufreq)."""
    forbidden = read(root / "sys/devices/system/cpu/intel_pstate/no_turbo")
    boost = read(root / "sys/devices/system/cpu/cpufreq/boost")
    return {"0": "on", "1": "off"}.get(forbidden, {"1": "on", "0": "off"}.get(boost, ""))


def _clock_mhz(root: Path) -> float | None:
    """The slowest CPU's highest clock."""
    found = [read(path) for path in root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq")]
    return min((int(khz) / 1000 for khz in found if khz.isdigit()), default=None)


def _memory_bytes(root: Path) -> int:
    for line in read(root / "proc/meminfo").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def _length(part: str) -> int:
    first, _, last = part.partition("-")
    return int(last or first) - int(first) + 1
