import os
import platform
from pathlib import Path

import pytest
from msgspec.structs import replace

from deploy.runtime.device.probe import CAPS, cpus_allowed, default_threads, fingerprint, missing_needs
from tests.deploy.runtime.device.devices import device
from toolchain.records.manifest import Needs


@pytest.fixture(autouse=True)
def uncapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorded devices are told as they are, whatever holds this process back."""
    for name in CAPS:
        monkeypatch.delenv(name, raising=False)


def test_a_recorded_container_is_told_whole(tmp_path: Path) -> None:
    found = fingerprint(device(tmp_path, "docker-v1"))
    assert found.cpu_model == "Intel(R) Xeon(R) Processor"
    assert {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "avx512_fp16"} < set(found.cpu_isa)
    assert "amx_int8" not in found.cpu_isa
    assert (found.cores, found.cpus_allowed, found.cpu_quota) == (2, 2, 0.5)
    assert (found.memory_bytes, found.memory_limit_bytes) == (24684096 * 1024, 512 * 2**20)
    assert (found.kernel, found.hypervisor, found.governor) == ("6.18.44", True, "")
    assert (found.gpu, found.gpu_driver) == ("", "")


@pytest.mark.parametrize(
    ("variable", "level", "left", "gone"),
    [
        ("ONEDNN_MAX_CPU_ISA", "AVX2", {"avx2", "fma"}, {"avx512f", "avx_vnni", "avx512_bf16"}),
        ("DNNL_MAX_CPU_ISA", "avx2_vnni", {"avx2", "avx_vnni"}, {"avx512f", "avx512_vnni"}),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE", {"avx512vl"}, {"avx_vnni", "avx512_vnni", "avx512_bf16"}),
        ("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16", {"avx512_vnni", "avx512_bf16"}, {"avx512_fp16", "avx_vnni"}),
    ],
)
def test_what_onednn_is_kept_from_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, level: str, left: set[str], gone: set[str]
) -> None:
    whole = fingerprint(device(tmp_path, "docker-v1"))
    monkeypatch.setenv(variable, level)
    found = fingerprint(tmp_path)
    assert left < set(found.cpu_isa)
    assert gone <= set(whole.cpu_isa)
    assert not gone & set(found.cpu_isa)
    assert found.cpu_model == f"Intel(R) Xeon(R) Processor, held to {level.upper()} by {variable}"
    assert missing_needs(Needs(found.architecture, tuple(sorted(gone))), found) == (
        f"this device's CPU ({found.cpu_model}) lacks {', '.join(sorted(gone))}, which the bundle needs; "
        "build the bundle on such a device: toolchain build RECIPE"
    )


@pytest.mark.parametrize("level", ["", "DEFAULT", "avx4096"])
def test_a_cap_that_onednn_does_not_heed_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    whole = fingerprint(device(tmp_path, "docker-v1"))
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", level)
    assert fingerprint(tmp_path) == whole


def test_the_newer_name_of_the_cap_counts_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert "avx512f" not in fingerprint(device(tmp_path, "docker-v1")).cpu_isa


def test_an_arm_device_with_gpus_is_told_by_what_all_its_cores_have(tmp_path: Path) -> None:
    found = fingerprint(device(tmp_path, "docker-v2"))
    assert found.cpu_isa == ("asimd", "asimdhp", "asimddp")
    assert found.cpu_model == "ARM implementer 0x41 part 0xd40"
    assert found.governor == "performance, schedutil"
    assert (found.gpu, found.gpu_driver) == ("NVIDIA RTX A6000, NVIDIA A10", "550.54.15")


def test_clocks_turbo_nodes_and_microcode_are_told_as_the_kernel_shows_them(tmp_path: Path) -> None:
    system = tmp_path / "sys/devices/system"
    for path, content in {
        "cpu/cpu0/cpufreq/cpuinfo_max_freq": "3800000",
        "cpu/cpu1/cpufreq/cpuinfo_max_freq": "2000000",
        "cpu/intel_pstate/no_turbo": "1",
        "node/node0/cpulist": "0",
        "node/node1/cpulist": "1",
    }.items():
        (system / path).parent.mkdir(parents=True, exist_ok=True)
        (system / path).write_text(f"{content}\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nmicrocode\t: 0x2b000571\n")
    (tmp_path / "proc/self/status").write_text("Cpus_allowed_list:\t0-3,8\n")
    found = fingerprint(tmp_path)
    assert (found.clock_mhz, found.turbo, found.numa_nodes, found.microcode) == (2000.0, "off", 2, "0x2b000571")
    assert (found.cpuset, found.cpus_allowed) == ("0-3,8", 5)
    (system / "cpu/intel_pstate/no_turbo").unlink()
    assert fingerprint(tmp_path).turbo == ""
    (system / "cpu/cpufreq").mkdir()
    (system / "cpu/cpufreq/boost").write_text("1")
    assert fingerprint(tmp_path).turbo == "on"


def test_an_unreadable_device_is_told_by_empty_fields(tmp_path: Path) -> None:
    found = fingerprint(tmp_path)
    assert (found.cpu_model, found.cpu_isa, found.cores, found.kernel) == ("", (), 0, "")


def test_this_machine_is_told() -> None:
    found = fingerprint()
    assert found.architecture == platform.machine()
    assert found.cores >= found.cpus_allowed == len(os.sched_getaffinity(0)) >= 1
    assert found == fingerprint()


@pytest.mark.parametrize(("name", "count"), [("docker-v1", 1), ("host-v1", 2), ("pod-v2", 1), ("docker-v2", 2)])
def test_threads_follow_quota_and_affinity_and_are_never_none(tmp_path: Path, name: str, count: int) -> None:
    assert default_threads(device(tmp_path, name)) == count


def test_lists_of_cpus_are_counted(tmp_path: Path) -> None:
    assert cpus_allowed(device(tmp_path, "pod-v2")) == 7


def test_what_the_device_lacks_is_named(tmp_path: Path) -> None:
    here = replace(fingerprint(device(tmp_path, "docker-v1")), architecture="x86_64")
    assert missing_needs(Needs("x86_64", ("avx2", "avx512_vnni")), here) is None
    assert missing_needs(Needs("x86_64", ("avx2", "amx_int8", "amx_tile")), here) == (
        "this device's CPU (Intel(R) Xeon(R) Processor) lacks amx_int8, amx_tile, which the bundle needs; "
        "build the bundle on such a device: toolchain build RECIPE"
    )


def test_another_architecture_is_named(tmp_path: Path) -> None:
    lacking = missing_needs(Needs("aarch64"), replace(fingerprint(tmp_path), architecture="x86_64"))
    assert lacking == (
        "the bundle is for aarch64, this device is x86_64; build it there: toolchain build RECIPE --target=TARGET"
    )
