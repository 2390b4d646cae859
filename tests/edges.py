"""Edge servers on this machine: each a Docker Engine of its own (data root, socket, daemon) behind a real sshd, in a
network namespace with an address of its own. Needs root, iproute2, dockerd and sshd.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from docker import DockerClient
from filelock import FileLock

from tests.engines.systems import System
from tests.names import WORKER

SSHD, DOCKERD = "/usr/sbin/sshd", "dockerd"
PLACE = int(WORKER.removeprefix("gw") or 0)  # each worker has a bridge and addresses of its own
BRIDGE, NETWORK, NAME = f"edge-test{PLACE}", f"10.77.{PLACE}", "edge"
START_S = 120.0
# one for all checkouts of the machine: TMPDIR may differ, the bridge does not
LOCK = Path(f"/run/lock/edge-test-bridge{PLACE}.lock")


def why_not() -> str:
    """Why no edge server can be had here; "" when one can."""
    if os.geteuid() != 0:
        return "edge servers need root (network namespaces)"
    missing = [name for name in ("ip", "nsenter", "ssh", "ssh-keygen", DOCKERD, "iptables") if not shutil.which(name)]
    missing += [] if Path(SSHD).exists() else ["sshd"]
    return f"edge servers need {', '.join(missing)}: deploy/setup.sh servers" if missing else ""


def done(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@dataclass
class Edge:
    """address: its IP, and what ssh knows it by; root: what its engine writes below, on a disk of its own if asked;
    system: what it runs, None for this machine's own."""

    name: str
    address: str
    folder: Path
    root: Path
    system: System | None = None
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Its network namespace, whose name is the machine's: by its address, which no other worker uses."""
        return f"{NAME}{'-'.join(self.address.split('.')[2:])}"

    @property
    def socket(self) -> str:
        return str(self.folder / "docker.sock")

    def client(self) -> DockerClient:
        """Straight to its engine, for a test to look."""
        return DockerClient(base_url=f"unix://{self.socket}")

    def inside(self, *words: str) -> list[str]:
        """A command in its network only: /sys with its cgroups stays the machine's."""
        return ["nsenter", f"--net=/run/netns/{self.network}", *words]

    def start_engine(self) -> None:
        with (self.folder / "dockerd.log").open("ab") as log:
            words = self._engine_words(self.system)
            self.processes["dockerd"] = subprocess.Popen(self.inside(*words), stdout=log, stderr=log)
        wait_for(self._answers, f"{self.name}: its engine; see {self.folder}/dockerd.log")

    def _engine_words(self, system: System | None) -> list[str]:
        if system:
            return system.enter(self.folder, self.root, *system.engine(self.folder, self.socket, f"{NETWORK}.254:5000"))
        settings = {
            "data-root": str(self.root), "exec-root": str(self.folder / "exec"), "pidfile": str(self.folder / "pid"),
            "hosts": [f"unix://{self.socket}"], "storage-driver": "overlay2", "live-restore": False,
            "insecure-registries": [f"{NETWORK}.0/24"],
        }  # fmt: skip
        (self.folder / "daemon.json").write_text(json.dumps(settings))
        (self.folder / "pid").unlink(missing_ok=True)  # of a daemon that was killed; its containerd's too
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        return [DOCKERD, f"--config-file={self.folder}/daemon.json"]

    def _answers(self) -> bool:
        asked = ["docker", "-H", f"unix://{self.socket}", "version"]
        return subprocess.run(asked, check=False, capture_output=True).returncode == 0

    def kill_engine(self) -> None:
        """As a crash does: the daemon and its containerd; what runs in containers goes on."""
        for word in (f"{self.folder}/daemon.json", f"{self.folder}/exec/containerd/containerd.toml"):
            subprocess.run(["pkill", "-KILL", "-f", word], check=False)
        self.processes.pop("dockerd").wait()

    def cut(self) -> None:
        done("ip", "link", "set", f"{self.network}-b", "down")

    def mend(self) -> None:
        done("ip", "link", "set", f"{self.network}-b", "up")

    def slow(self, mbit: int) -> None:
        """What is sent to it goes no faster."""
        shape = ("root", "tbf", "rate", f"{mbit}mbit", "burst", "256k", "latency", "50ms")
        done("tc", "qdisc", "replace", "dev", f"{self.network}-b", *shape)

    def quick(self) -> None:
        done("tc", "qdisc", "del", "dev", f"{self.network}-b", "root")

    def start_sshd(self, key: Path) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        home = self.folder / "home"
        home.mkdir()
        login = f'cd {home} && exec sh -c "$SSH_ORIGINAL_COMMAND"'  # a home of its own
        (self.folder / "sshd").write_text(
            f"HostKey {self.folder}/host\nAuthorizedKeysFile {key}.pub\nStrictModes no\nPidFile none\n"
            f"ListenAddress {self.address}:22\nMaxStartups 100\nMaxSessions 100\n"
            f"ForceCommand {self.system.login(self.folder) if self.system else login}\n"
        )
        done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / "host"))
        self.processes["sshd"] = subprocess.Popen(
            self.inside(SSHD, "-D", "-f", str(self.folder / "sshd")), stderr=subprocess.DEVNULL
        )

    def stop(self) -> None:
        with suppress(Exception):
            client = self.client()
            for container in client.containers.list(all=True, ignore_removed=True):
                container.remove(force=True)
            client.close()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
        unmounted(self.root, self.folder)
        subprocess.run(["ip", "netns", "del", self.network], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", f"{self.network}-b"], check=False, capture_output=True)


def unmounted(*folders: Path) -> None:
    """What a daemon that was killed left mounted below `folders`, deepest first."""
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for place in sorted(mounted, key=len, reverse=True):
        if any(place.startswith(f"{folder}/") for folder in folders):
            subprocess.run(["umount", "-l", place], check=False, capture_output=True)


def wait_for(good: Callable[[], bool], what: str, seconds: float = START_S) -> None:
    end = time.monotonic() + seconds
    while not good():
        assert time.monotonic() < end, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.1)


@contextmanager
def edges(
    folder: Path, count: int, disks_mb: Mapping[int, int] | None = None, systems: Sequence[System] = ()
) -> Iterator[list[Edge]]:
    """`count` servers; a folder `bin` with an `ssh` that knows them, to be put on PATH. disks_mb: servers by number
    whose engine has a disk of its own of so many MB; systems: what the first ones run."""
    key = folder / "user"
    done("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key))
    (folder / "config").write_text(
        f"Host {NETWORK}.*\nUser root\nIdentityFile {key}\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n"
        "LogLevel ERROR\n"
    )
    ssh = folder / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/config "$@"\n')
    ssh.chmod(0o755)
    with FileLock(LOCK):
        yield from _on_a_bridge(folder, count, disks_mb or {}, key, systems)


def _on_a_bridge(
    folder: Path, count: int, disks_mb: Mapping[int, int], key: Path, systems: Sequence[System]
) -> Iterator[list[Edge]]:
    """Its name and its addresses are the machine's: one worker of one run of tests at a time has them."""
    subprocess.run(["ip", "link", "del", BRIDGE], check=False, capture_output=True)
    done("ip", "link", "add", BRIDGE, "type", "bridge")
    done("ip", "addr", "add", f"{NETWORK}.254/24", "dev", BRIDGE)
    done("ip", "link", "set", BRIDGE, "up")
    made: list[Edge] = []
    try:
        for number in range(1, count + 1):
            made.append(edge := _laid_out(folder, number, disks_mb.get(number)))
            edge.system = systems[number - 1] if number <= len(systems) else None
            edge.start_sshd(key)
            edge.start_engine()
        yield made
    finally:
        for edge in made:
            edge.stop()
        unmounted(folder)
        done("ip", "link", "del", BRIDGE)


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """HOST:PORT of a real registry on the bridge, which the servers' engines reach as this machine's does."""
    address = f"{NETWORK}.254:5000"
    (folder / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/registry}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    command = ["docker-registry", "serve", str(folder / "registry.yml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: _listens(f"{NETWORK}.254", 5000), "the registry")
            yield address
        finally:
            process.terminate()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def _laid_out(folder: Path, number: int, disk_mb: int | None) -> Edge:
    name = f"{NAME}{number}"
    edge = Edge(name, f"{NETWORK}.{number}", folder / name, folder / name / "data")
    edge.root.mkdir(parents=True)
    if disk_mb:
        disk = edge.folder / "disk"
        done("truncate", "-s", f"{disk_mb}M", str(disk))
        done("mkfs.ext4", "-q", str(disk))
        done("mount", "-o", "loop", str(disk), str(edge.root))
    space = edge.network
    subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)
    subprocess.run(["ip", "link", "del", f"{space}-b"], check=False, capture_output=True)
    done("ip", "netns", "add", space)
    done("ip", "link", "add", f"{space}-b", "type", "veth", "peer", "name", "eth0", "netns", space)
    done("ip", "link", "set", f"{space}-b", "master", BRIDGE, "up")
    for words in (("addr", "add", f"{edge.address}/24", "dev", "eth0"), ("link", "set", "eth0", "up")):
        done("ip", "-n", space, *words)
    done("ip", "-n", space, "link", "set", "lo", "up")
    done("ip", "-n", space, "route", "add", "default", "via", f"{NETWORK}.254")
    return edge
