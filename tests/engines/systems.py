"""Systems with engines of other releases than this machine's: each a Debian of its own, unpacked into a folder once
(half a minute), in which an edge server's engine runs; see tests/edges.py. Needs root, mmdebstrap and Debian's archive.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

CACHE = Path(__file__).parents[2] / ".toolchain" / "systems"
HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")
SHELL = ("base-files", "bash", "dash", "coreutils", "findutils", "grep", "tar", "mount", "util-linux", "iproute2")
DOCKER = ("docker.io", "containerd", "runc", "iptables", "nftables", "ca-certificates")
PODMAN = (
    "podman",
    "netavark",
    "aardvark-dns",
    "runc",
    "conmon",
    "iptables",
    "nftables",
    "golang-github-containers-common",
)
ROOTLESS = ("docker-cli", "rootlesskit", "slirp4netns", "uidmap", "fuse-overlayfs", "kmod", "procps")
USER = 1000  # whom a rootless engine runs as
IPTABLES = ("iptables", "iptables-restore", "iptables-save", "ip6tables", "ip6tables-restore", "ip6tables-save")
DATA = "/var/lib/engine"  # where an engine finds its own disk
# Podman's own defaults for containers.conf ask for what a kernel with cgroup v1, or a container, does not give
CONTAINERS_CONF = """\
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
"""
# $1: the unpacked system; $2: the server's folder, which is at the same place inside; $3: what its engine writes to.
# All of it is seen in here alone, and is gone with the last process. No name is resolved, and at once: an edge server's
# network leads nowhere.
ENTER = f"""\
set -e
system=$1 folder=$2 data=$3; shift 3
mkdir -p "$folder/changes" "$folder/work" "$folder/system"
mount -t overlay overlay -o "lowerdir=$system,upperdir=$folder/changes,workdir=$folder/work" "$folder/system"
cd "$folder/system"
for place in proc sys dev; do mount --rbind "/$place" "$place"; done
! mountpoint -q sys/fs/cgroup/unified || umount sys/fs/cgroup/unified
mount -t tmpfs tmpfs run
mkdir -p run/tun && mknod -m 666 run/tun/tun c 10 200 && mount --bind run/tun dev/net # for a rootless engine
mkdir -p ".$folder" ".{DATA}"
mount --bind "$folder" ".$folder"
mount --bind "$data" ".{DATA}"
echo nameserver 127.0.0.1 > etc/resolv.conf; echo 127.0.0.1 localhost > etc/hosts
echo $$ > "$folder/init"
mkdir -p before
pivot_root . before # not only chroot: engines look at the mounts of their root
exec chroot . /bin/sh -c 'umount -l /before; exec "$@"' - "$@"
"""


@dataclass(frozen=True)
class System:
    """name: of its engine, as the table has it; settings: what daemon.json has besides; podman: it runs no dockerd;
    rootless: its engine runs as a user; shell: whether ssh leads into it, or stays outside of the machine that the
    engine runs in, as with a virtual machine."""

    name: str
    suite: str
    packages: tuple[str, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    podman: bool = False
    rootless: bool = False
    shell: bool = True

    def unpack(self) -> Path:
        """The folder that it lies in, made now where it is not there yet."""
        named = sha256(f"{self.suite} {self.packages} {CONTAINERS_CONF} {USER}".encode()).hexdigest()[:12]
        folder = CACHE / f"{self.suite}-{named}"
        CACHE.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.is_dir():
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                _debootstrap(self.suite, self.packages, part)
                part.rename(folder)
        return folder

    def enter(self, folder: Path, data: Path, *words: str) -> list[str]:
        """A command in the system; it is the process that is started."""
        script = ["sh", "-c", ENTER, "-", str(self.unpack()), str(folder), str(data), *words]
        return ["unshare", "--mount", "--propagation", "private", *script]

    def engine(self, folder: Path, socket: str, insecure: str) -> list[str]:
        """The command, inside, that serves `socket`; it writes its settings below `folder`."""
        if self.podman:
            (folder / "registries.conf").write_text(f'[[registry]]\nlocation = "{insecure}"\ninsecure = true\n')
            storage = (f"--root={DATA}/storage", "--runroot=/run/containers")
            registries = f"CONTAINERS_REGISTRIES_CONF={folder}/registries.conf"
            return ["env", registries, "podman", *storage, "system", "service", "--time=0", f"unix://{socket}"]
        settings = {
            "data-root": DATA, "exec-root": "/run/docker", "pidfile": "/run/docker.pid", "hosts": [f"unix://{socket}"],
            "insecure-registries": [insecure], **self.settings,
        }  # fmt: skip
        if self.rootless:
            return _rootless_engine(folder, socket)
        (folder / "daemon.json").write_text(json.dumps(settings))
        return ["dockerd", f"--config-file={folder}/daemon.json"]

    def login(self, folder: Path) -> str:
        """What sshd runs for whoever logs in, as a line of sshd_config: a home of its own, in the system."""
        home = folder / "home"
        if not self.shell:
            return f'cd {home} && exec sh -c "$SSH_ORIGINAL_COMMAND"'
        script = folder / "login"
        script.write_text(
            f"#!/bin/sh\ncd {home}\nexport HOME={home} PATH=/usr/sbin:/usr/bin\n"
            f'exec nsenter --target="$(cat {folder}/init)" --mount --root '
            f"""/bin/sh -c 'cd {home} && exec sh -c "$1"' - "$SSH_ORIGINAL_COMMAND"\n"""
        )
        script.chmod(0o755)
        return str(script)


def _rootless_engine(folder: Path, socket: str) -> list[str]:
    """As dockerd-rootless-setuptool.sh starts it; `folder` and what it has of a disk become the user's."""
    os.chown(folder, USER, USER)
    os.chown(folder / "data", USER, USER)
    script = f"mkdir -p /run/user/{USER}; chown {USER}:{USER} /run/user/{USER}; exec "
    script += f"setpriv --reuid={USER} --regid={USER} --clear-groups "
    script += f"env HOME=/home/edge XDG_RUNTIME_DIR=/run/user/{USER} PATH=/usr/sbin:/usr/bin "
    script += f"/usr/share/docker.io/contrib/dockerd-rootless.sh --host=unix://{socket} --data-root={DATA}"
    return ["sh", "-c", script]


def _debootstrap(suite: str, packages: tuple[str, ...], out: Path) -> None:
    """Unpacked, with none of the packages' own scripts run; release files may be as old as the mirror."""
    include = ",".join((*SHELL, *packages))
    hooks = [f"--hook-dir={HOOKS}"] if HOOKS.is_dir() else []
    options = ["--quiet", "--variant=extract", '--aptopt=Acquire::Check-Valid-Until "false"', *hooks]
    subprocess.run(["mmdebstrap", *options, f"--include={include}", suite, str(out)], check=True, capture_output=True)
    for name in IPTABLES:
        (out / "usr/sbin" / name).unlink(missing_ok=True)
        (out / "usr/sbin" / name).symlink_to("xtables-nft-multi")
    if not (out / "usr/bin/sh").exists():
        (out / "usr/bin/sh").symlink_to("dash")
    with (out / "etc/passwd").open("a") as users, (out / "etc/group").open("a") as groups:
        users.write(f"edge:x:{USER}:{USER}::/home/edge:/bin/sh\n")
        groups.write(f"edge:x:{USER}:\n")
    (out / "home/edge").mkdir()
    os.chown(out / "home/edge", USER, USER)
    for name in ("subuid", "subgid"):
        (out / "etc" / name).write_text("edge:100000:65536\n")
    (out / "etc/containers").mkdir(exist_ok=True)
    (out / "etc/containers/containers.conf").write_text(CONTAINERS_CONF)


CLASSIC_20 = System("Docker 20.10, overlay2", "bookworm", DOCKER, {"storage-driver": "overlay2"})
CLASSIC_26 = System("Docker 26.1, overlay2", "trixie", (*DOCKER, "docker-cli"), {"storage-driver": "overlay2"})
# what a freshly installed Docker 29 has; its root folder is not on the file system of who logs in
CONTAINERD_28 = System(
    "Docker 28.5, containerd store", "forky", (*DOCKER, "docker-cli"), {"features": {"containerd-snapshotter": True}},
    shell=False,
)  # fmt: skip
ROOTLESS_26 = System("Docker 26.1, rootless", "trixie", (*DOCKER, *ROOTLESS), rootless=True)
PODMAN_5 = System("Podman 5.4", "trixie", PODMAN, podman=True)


def why_not() -> str:
    """Why no such system can be had here; "" when one can."""
    if os.geteuid() != 0:
        return "systems of their own need root (mount namespaces)"
    missing = [name for name in ("mmdebstrap", "unshare", "nsenter") if not shutil.which(name)]
    return f"systems of their own need {', '.join(missing)}: deploy/setup.sh engine" if missing else ""
