"""Finds out who uses a TCP port of this machine, from Docker's list of containers and from /proc."""

from contextlib import suppress
from pathlib import Path

from docker import DockerClient

LISTEN = "0A"


def is_port_in_use(port: int) -> bool:
    """Whether anything on this machine listens on `port`."""
    return bool(_listening_sockets(port))


def describe_port_holder(port: int, client: DockerClient) -> str:
    """A container's name, a process, or 'another program' when it cannot be determined."""
    for container in client.containers.list(ignore_removed=True):
        published = container.attrs["NetworkSettings"]["Ports"].values()
        if any(binding["HostPort"] == str(port) for bindings in published for binding in bindings or ()):
            return f"container '{container.name}'"
    return _find_process(port) or "another program"


def _find_process(port: int) -> str:
    """`python3 (process 123)`; empty where /proc does not show it, for example without root."""
    sockets = {f"socket:[{inode}]" for inode in _listening_sockets(port)}
    for link in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        with suppress(OSError):  # processes come and go, and those of other users cannot be read
            if str(link.readlink()) in sockets:
                pid = link.parts[2]
                return f"{Path('/proc', pid, 'comm').read_text().strip()} (process {pid})"
    return ""


def _listening_sockets(port: int) -> set[str]:
    """Inodes of the sockets that listen on `port`, over IPv4 and IPv6."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTEN and int(words[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(words[9])
    return inodes
