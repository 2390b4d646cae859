"""Who holds a TCP port of this machine? Read from Docker's list and from /proc; knows nothing else."""

from contextlib import suppress
from pathlib import Path

from docker import DockerClient

LISTEN = "0A"


def in_use(port: int) -> bool:
    """Whether anything on this machine listens on `port`."""
    return bool(_listening(port))


def holder_of(port: int, client: DockerClient) -> str:
    """In words: a container's name, a process, or 'another program' when it cannot be told."""
    for container in client.containers.list(ignore_removed=True):
        published = container.attrs["NetworkSettings"]["Ports"].values()
        if any(binding["HostPort"] == str(port) for bindings in published for binding in bindings or ()):
            return f"container '{container.name}'"
    return _process(port) or "another program"


def _process(port: int) -> str:
    """`python3 (process 123)`; empty where /proc does not tell, as without root."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for link in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        with suppress(OSError):  # processes come and go, and others' are closed to us
            if str(link.readlink()) in sockets:
                pid = link.parts[2]
                return f"{Path('/proc', pid, 'comm').read_text().strip()} (process {pid})"
    return ""


def _listening(port: int) -> set[str]:
    """Inodes of the sockets that listen on `port`, over IPv4 and IPv6."""
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        with suppress(OSError):
            for line in table.read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == LISTEN and int(words[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(words[9])
    return inodes
