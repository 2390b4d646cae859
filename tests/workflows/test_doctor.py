"""What doctor finds: on this machine for real, and on machines told by their fingerprints."""

import gc
import sys
from pathlib import Path

import msgspec
import pytest

from deploy.runtime.device.probe import fingerprint
from toolchain.backends import TABLE
from toolchain.records.fingerprint import Fingerprint
from toolchain.workflows.doctor import (
    GIB,
    MachineFinding,
    examine_machine,
    free_space,
    memory,
    package,
    processor,
    sound,
)

DEVICE = Fingerprint("x86_64", "Xeon", ("avx2",), 8, 4, 2.5, "", "6.1", False, 16 * GIB, None)


def by_name(findings: tuple[MachineFinding, ...] | list[MachineFinding]) -> dict[str, MachineFinding]:
    return {finding.name: finding for finding in findings}


@pytest.fixture(scope="module")
def here() -> dict[str, MachineFinding]:
    findings = examine_machine()
    assert len(by_name(findings)) == len(findings), "two findings of one name"
    return by_name(findings)


def test_this_machine_is_examined_without_heavy_imports(here: dict[str, MachineFinding]) -> None:
    assert here["torch"].state == here["openvino"].state == "ok"
    assert here["CPU"].found.startswith(fingerprint().cpu_model)
    assert {f"target {name}" for name in TABLE} <= set(here)
    assert (here["target null"].state, here["target null"].found) == ("ok", "ready")
    assert {"Docker Engine", "BuildKit", "GPU", "memory", "npm", "mmdebstrap"} <= set(here)


def test_every_problem_comes_with_advice(here: dict[str, MachineFinding]) -> None:
    assert [finding for finding in here.values() if finding.state != "ok" and not finding.advice] == []


# the docker SDK drops the socket that could not connect, unclosed
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_machine_without_an_engine_is_not_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    findings = by_name(examine_machine())
    assert findings["Docker Engine"].state == "missing"
    assert findings["Docker Engine"].found.startswith("no Docker Engine at ")
    assert "make setup" in findings["Docker Engine"].advice
    assert not sound(findings.values())
    gc.collect()


def test_notes_alone_leave_a_machine_sound() -> None:
    assert sound([MachineFinding("a", "ok", "1"), MachineFinding("b", "note", "none", "only for c")])
    assert not sound([MachineFinding("a", "ok", "1"), MachineFinding("b", "missing", "none", "make setup")])


@pytest.mark.parametrize(
    ("isa", "int8", "bf16"),
    [
        (("avx2",), ("ok", "avx2"), ("note", "none of amx_bf16, avx512_bf16")),
        (("avx2", "avx_vnni"), ("ok", "avx_vnni"), ("note", "none of amx_bf16, avx512_bf16")),
        (("avx2", "avx512_vnni", "avx512_bf16"), ("ok", "avx512_vnni"), ("ok", "avx512_bf16")),
        (("avx512_vnni", "amx_int8", "avx512_bf16", "amx_bf16"), ("ok", "amx_int8"), ("ok", "amx_bf16")),
        ((), ("note", "none of amx_int8, avx512_vnni, avx_vnni, avx2"), ("note", "none of amx_bf16, avx512_bf16")),
    ],
)
def test_the_best_cpu_feature_is_reported(isa: tuple[str, ...], int8: tuple[str, str], bf16: tuple[str, str]) -> None:
    findings = by_name(processor(msgspec.structs.replace(DEVICE, cpu_isa=isa)))
    assert (findings["INT8 speed"].state, findings["INT8 speed"].found) == int8
    assert (findings["BF16 speed"].state, findings["BF16 speed"].found) == bf16
    assert findings["INT8 speed"].advice


def test_cores_quota_and_limits_are_reported() -> None:
    assert by_name(processor(DEVICE))["CPU cores"].found == "8, 4 allowed, cgroup quota 2.5 CPUs"
    assert memory(DEVICE) == MachineFinding("memory", "ok", "16.0 GiB")
    limited = memory(msgspec.structs.replace(DEVICE, memory_limit_bytes=GIB))
    assert (limited.state, limited.found) == ("note", "16.0 GiB, cgroup limit 1.0 GiB")


def test_a_full_disk_is_missing_space(tmp_path: Path) -> None:
    assert free_space("disk", tmp_path / "not" / "made" / "yet", 1).state == "ok"
    full = free_space("disk", tmp_path / "not", 1 << 62)
    assert full.state == "missing"
    assert full.found.endswith(f" GiB free at {tmp_path}")


def test_a_package_that_is_not_installed_is_missing() -> None:
    assert package("no-such-package") == MachineFinding("no-such-package", "missing", "not installed", "make setup")
    assert package("msgspec").found == sys.modules["msgspec"].__version__
