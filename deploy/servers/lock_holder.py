"""The holder of a lock: its run, where it runs, and whether that run is still alive.

A process is known by its number, its start and the PID namespace that both belong to: two containers with one hostname
see different processes under the same numbers.
"""

import getpass
import os
import socket
import uuid
from contextlib import suppress
from pathlib import Path

from deploy.servers.server import LockHolder, now

BOOT = Path("/proc/sys/kernel/random/boot_id")
MACHINE = Path("/etc/machine-id")
NAMESPACE = Path("/proc/self/ns/pid")
HOST_NAMESPACE = "pid:[4026531836]"  # of what runs in no container (PROC_PID_INIT_INO, include/linux/proc_ns.h)
START_FIELD = 19  # of /proc/PID/stat behind the name: when it started, in clock ticks since the boot


def new_lock_holder(why: str) -> LockHolder:
    return LockHolder(
        holder=uuid.uuid4().hex,
        who=getpass.getuser(),
        host=socket.gethostname(),
        pid=os.getpid(),
        boot=_read_text(BOOT),
        since=now(),
        why=why,
        machine=_read_text(MACHINE),
        namespace=_read_namespace(),
        started=_read_start(os.getpid()),
    )


def has_ended(holder: LockHolder) -> bool:
    """Whether its run is known to have ended. False for a run that cannot be seen from here: on another host, in
    another container, or of a version that did not record where it ran."""
    if not (holder.boot and holder.namespace and holder.started):
        return False
    if holder.boot == _read_text(BOOT):
        return holder.namespace == _read_namespace() and not _runs(holder)
    return _is_own_machine(holder)


def _is_own_machine(holder: LockHolder) -> bool:
    """Whether it ran on this machine, in no container: what is written in a container's files may be in many."""
    own = (_read_text(MACHINE), socket.gethostname(), _read_namespace())
    return bool(holder.machine) and (holder.machine, holder.host, holder.namespace) == own and own[2] == HOST_NAMESPACE


def _runs(holder: LockHolder) -> bool:
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, whose files in /proc may be hidden
    return _read_start(holder.pid) in ("", holder.started)


def _read_start(pid: int) -> str:
    """ "" where it cannot be read."""
    stat = _read_text(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return stat[START_FIELD] if len(stat) > START_FIELD else ""


def _read_namespace() -> str:
    with suppress(OSError):
        return str(NAMESPACE.readlink())
    return ""


def _read_text(place: Path) -> str:
    with suppress(OSError):
        return place.read_text(errors="replace").strip()
    return ""
