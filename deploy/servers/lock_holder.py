"""Who holds a lock: of which run, on which host, and whether that run still lives."""

import getpass
import os
import socket
import uuid
from pathlib import Path

from deploy.servers.server import Ticket, now

BOOT = Path("/proc/sys/kernel/random/boot_id")


def new_ticket(why: str) -> Ticket:
    return Ticket(uuid.uuid4().hex, getpass.getuser(), socket.gethostname(), os.getpid(), _boot(), now(), why)


def gone(ticket: Ticket) -> bool:
    """Whether its holder was on this very host and is not any more; of another host nobody here can tell."""
    if ticket.host != socket.gethostname():
        return False
    if ticket.boot != _boot():
        return True
    return not Path(f"/proc/{ticket.pid}").exists()


def _boot() -> str:
    return BOOT.read_text().strip() if BOOT.is_file() else ""
