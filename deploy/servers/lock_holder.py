"""The holder of a lock: its run, its host, and whether that run is still alive."""

import getpass
import os
import socket
import uuid
from pathlib import Path

from deploy.servers.server import LockHolder, now

BOOT = Path("/proc/sys/kernel/random/boot_id")


def new_lock_holder(why: str) -> LockHolder:
    return LockHolder(uuid.uuid4().hex, getpass.getuser(), socket.gethostname(), os.getpid(), _boot(), now(), why)


def has_ended(holder: LockHolder) -> bool:
    """Whether its run was on this host and has ended; always False for another host, where that cannot be known."""
    if holder.host != socket.gethostname():
        return False
    if holder.boot != _boot():
        return True
    return not Path(f"/proc/{holder.pid}").exists()


def _boot() -> str:
    return BOOT.read_text().strip() if BOOT.is_file() else ""
