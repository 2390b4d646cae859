from pathlib import Path

from deploy.runtime.device.cgroup import cpu_quota, memory_limit_bytes, peak_memory_bytes, throttled_periods
from tests.deploy.runtime.device.devices import device


def test_a_container_under_version_1_reads_its_own_part_of_the_tree(tmp_path: Path) -> None:
    root = device(tmp_path, "docker-v1")
    assert cpu_quota(root) == 0.5
    assert memory_limit_bytes(root) == 512 * 2**20
    assert throttled_periods(root) == 12


def test_a_host_without_quota_has_none_though_version_2_is_mounted_too(tmp_path: Path) -> None:
    root = device(tmp_path, "host-v1")
    assert cpu_quota(root) is None
    assert memory_limit_bytes(root) is None
    assert throttled_periods(root) == 0


def test_the_strictest_group_round_the_process_counts_under_version_2(tmp_path: Path) -> None:
    root = device(tmp_path, "pod-v2")
    assert cpu_quota(root) == 1.5
    assert memory_limit_bytes(root) == 2**30
    assert throttled_periods(root) == 10


def test_a_container_with_its_own_namespace_reads_the_mount_itself(tmp_path: Path) -> None:
    root = device(tmp_path, "docker-v2")
    assert cpu_quota(root) == 3.0
    assert memory_limit_bytes(root) is None
    assert throttled_periods(root) == 3


def test_a_group_outside_the_mounted_part_is_looked_for_at_the_mount(tmp_path: Path) -> None:
    root = device(tmp_path, "docker-v1")
    (root / "proc/self/cgroup").write_text("1:cpu:/elsewhere\n4:memory:/../../elsewhere\n")
    assert cpu_quota(root) == 0.5
    assert memory_limit_bytes(root) == 512 * 2**20


def test_version_1_controllers_may_be_mounted_together(tmp_path: Path) -> None:
    root = device(tmp_path, "docker-v1")
    mounts = (root / "proc/self/mountinfo").read_text().replace("cgroup rw,cpu\n", "cgroup rw,cpu,cpuacct\n")
    (root / "proc/self/mountinfo").write_text(mounts)
    (root / "proc/self/cgroup").write_text("1:cpu,cpuacct:/docker/4e487af7\n")
    assert cpu_quota(root) == 0.5


def test_peak_memory_is_the_process_s_own_and_else_the_group_s(tmp_path: Path) -> None:
    assert peak_memory_bytes(device(tmp_path / "a", "docker-v1")) == 1732 * 1024
    assert peak_memory_bytes(device(tmp_path / "b", "pod-v2")) == 734003200


def test_a_machine_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    assert (cpu_quota(tmp_path), memory_limit_bytes(tmp_path)) == (None, None)
    assert (throttled_periods(tmp_path), peak_memory_bytes(tmp_path)) == (0, 0)


def test_this_machine_tells_a_peak() -> None:
    assert peak_memory_bytes() > 2**20
