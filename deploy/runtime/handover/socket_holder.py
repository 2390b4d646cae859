"""A door that the servers of a model stand behind, one after the other, and no request is lost when they change.

The door holds the listening socket and accepts nothing: whoever connects to its Unix socket, on a volume that they
share, is handed it (SCM_RIGHTS, unix(7)). So the old server and the new one accept from one queue; a server that stops
leaves what is queued to the other, and while none is there, clients wait instead of being refused. Which one may open
is a word in the file `live`, the name of its container: written once, read by all, so there is never more than one.

No proxy: not a byte of a request passes through here.
"""

import socket
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from toolchain.errors import DeviceError

SOCKET, LIVE = "door.sock", "live"
BACKLOG = 4096  # what waits while servers change; the kernel's net.core.somaxconn may be less


class HandedSocket(NamedTuple):
    """listening: the door's socket; link: ends when the door does, and then a new one must be asked for."""

    listening: socket.socket
    link: socket.socket


def run_socket_holder(folder: Path, host: str, port: int) -> None:
    """Listen on host:port and hand the socket out, until SIGTERM. DeviceError: the address is taken."""
    with socket.socket() as listening, socket.socket(socket.AF_UNIX) as asking:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise DeviceError(f"cannot listen on {host}:{port} ({error.strerror}); choose another: --port") from error
        listening.listen(BACKLOG)
        place = folder / SOCKET
        with suppress(FileNotFoundError):
            place.unlink()  # of a door that was killed
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
    """The door's socket; OSError while there is no door."""
    link = socket.socket(socket.AF_UNIX)
    try:
        link.settimeout(timeout_s)
        link.connect(str(folder / SOCKET))
        _, found, _, _ = socket.recv_fds(link, 1, 1)
        if not found:
            raise ConnectionError("the door handed nothing out")
        listening = socket.socket(fileno=found[0])
        listening.setblocking(False)
        link.setblocking(False)
        return HandedSocket(listening, link)
    except BaseException:
        link.close()
        raise


def active_container(folder: Path) -> str:
    """The name of the container that may open; "" where none is named."""
    try:
        return (folder / LIVE).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return ""
