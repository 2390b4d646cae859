"""Holds a model's listening socket and hands it to the active server, so that releases switch without losing a
connection.

The holder accepts no connection itself: whoever connects to its Unix socket, on a shared volume, receives the listening
socket (SCM_RIGHTS, unix(7)). The old and the new server thus accept from one queue; a server that stops leaves the
queued connections to the other, and while there is none, clients wait instead of being refused. The file `live` holds
the name of the container that may accept: written once, read by all, so that there is never more than one.

This is no proxy: not a byte of a request passes through it.
"""

import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from toolchain.errors import DeviceError

SOCKET, LIVE = "door.sock", "live"
BACKLOG = 4096  # connections that wait while servers change; the kernel's net.core.somaxconn may be lower


class HandedSocket(NamedTuple):
    """listening: the holder's socket; link: closes when the holder ends, and then a new socket must be requested."""

    listening: socket.socket
    link: socket.socket


def run_socket_holder(folder: Path, host: str, port: int) -> None:
    """Listen on host:port and hand the socket out until SIGTERM. DeviceError: the address is taken."""
    with socket.socket() as listening, socket.socket(socket.AF_UNIX) as asking:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise DeviceError(f"cannot listen on {host}:{port} ({error.strerror}); choose another: --port") from error
        listening.listen(BACKLOG)
        place = folder / SOCKET
        with suppress(FileNotFoundError):
            place.unlink()  # left by a holder that was killed
        asking.bind(str(place))
        asking.listen()
        links: list[socket.socket] = []
        while True:
            link, _ = asking.accept()
            with suppress(OSError):
                socket.send_fds(link, [b"."], [listening.fileno()])
                links.append(link)
            links = [one for one in links if _is_connected(one)]


def _is_connected(link: socket.socket) -> bool:
    """Whether a server is still at the other end; closed here if not."""
    with suppress(BlockingIOError):
        if not link.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK):
            link.close()
            return False
    return True


def receive_socket(folder: Path, timeout_s: float = 5.0) -> HandedSocket:
    """The holder's socket; OSError while there is no holder."""
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(timeout_s)
        link.connect(str(folder / SOCKET))
        _, found, _, _ = socket.recv_fds(link, 1, 1)
        if not found:
            raise ConnectionError("the socket holder sent no socket")
        listening = socket.socket(fileno=found[0])
        listening.setblocking(False)
        link.setblocking(False)
        return HandedSocket(listening, link)
    except BaseException:
        link.close()
        raise


def active_container(folder: Path) -> str:
    """The name of the container that may accept; "": none."""
    try:
        return (folder / LIVE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
