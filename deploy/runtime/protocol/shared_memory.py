"""System shared memory of clients on this host: named regions, read and written instead of a request's bytes.

The extension is NVIDIA Triton's (extension_shared_memory.md). Regions are files in /dev/shm, read with pread and never
mapped: a client that shortens its file makes only its own request fail, where a mapping would end this process
(SIGBUS). This costs the copy that the engine needs anyway. Knows nothing of HTTP or gRPC.
"""

import os
import re
import stat
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from deploy.runtime.protocol.tensors import aligned_buffer, printable
from toolchain.errors import RequestError

FOLDER = Path("/dev/shm")
KEY = re.compile(r"/?[A-Za-z0-9._-]{1,250}")
MAX_REGIONS = 1024  # regions; each holds a file open
SharedMemoryPolicy = Literal["local", "on", "off"]
POLICIES: tuple[SharedMemoryPolicy, ...] = ("local", "on", "off")


class RegionSlice(NamedTuple):
    """A slice of a region, which holds an input or receives an output."""

    region: str
    offset: int
    size: int


class OpenFile:
    """A file that is closed with its last reference: a request may still read a region that was just unregistered."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class SharedRegion(NamedTuple):
    key: str
    offset: int
    size: int
    file: OpenFile


class RegionStatus(msgspec.Struct, frozen=True):
    """A registered region, in the protocol's words; sizes in bytes."""

    name: str
    key: str
    offset: Annotated[int, msgspec.Meta(ge=0)]
    byte_size: Annotated[int, msgspec.Meta(ge=0)]


class SharedRegions:
    """All methods may be called from any thread. RequestError: what does not exist or does not fit."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._regions: dict[str, SharedRegion] = {}

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        if not name or len(name) > 250 or not name.isprintable():
            raise RequestError(
                f"shared memory region '{printable(name)}': expected a name of 1 to 250 printable letters"
            )
        if offset < 0 or size < 1:
            raise RequestError(
                f"region '{printable(name)}': expected offset >= 0 and byte_size > 0, got {offset}, {size}"
            )
        file = self._open_file(name, key)
        held = os.fstat(file.descriptor).st_size
        if offset + size > held:
            raise RequestError(
                f"region '{printable(name)}': {key} has {held} bytes, expected {offset + size} (offset and byte_size)"
            )
        with self._lock:
            if name in self._regions:
                raise RequestError(f"region '{printable(name)}' is registered already: unregister it first")
            if len(self._regions) >= MAX_REGIONS:
                raise RequestError(
                    f"expected at most {MAX_REGIONS} shared memory regions: unregister those no longer in use"
                )
            self._regions[name] = SharedRegion(key, offset, size, file)

    def _open_file(self, name: str, key: str) -> OpenFile:
        if not KEY.fullmatch(key) or key.strip("/") in (".", ".."):
            raise RequestError(
                f"region '{printable(name)}': '{printable(key)}' is not a shared memory key: letters, digits, . _ -"
            )
        path = self._folder / key.lstrip("/")
        try:  # neither symbolic links nor pipes, which could block
            found = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise RequestError(f"region '{printable(name)}': {key} cannot be opened here ({error.strerror})") from error
        opened = OpenFile(found)
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise RequestError(f"region '{printable(name)}': {key} is not shared memory")
        return opened

    def unregister(self, name: str | None) -> None:
        """None: all regions. An unknown region counts as unregistered already."""
        with self._lock:
            if name is None:
                self._regions.clear()
            else:
                self._regions.pop(name, None)

    def status(self, name: str | None = None) -> list[RegionStatus]:
        """Of the region `name`, or of all (None), sorted by name."""
        with self._lock:
            if name is not None and name not in self._regions:
                raise RequestError(f"no shared memory region '{printable(name)}' is registered")
            return [
                RegionStatus(region_name, region.key, region.offset, region.size)
                for region_name, region in sorted(self._regions.items())
                if name in (None, region_name)
            ]

    def read(self, place: RegionSlice) -> memoryview:
        """A copy, aligned for the engine."""
        region = self._find(place)
        buffer = aligned_buffer(place.size)
        at = 0
        while at < place.size:
            got = os.preadv(region.file.descriptor, [buffer[at:]], region.offset + place.offset + at)
            if not got:
                raise RequestError(f"region '{printable(place.region)}' has become shorter than it was registered")
            at += got
        return buffer

    def write(self, place: RegionSlice, content: bytes) -> None:
        region = self._find(place)
        if len(content) > place.size:
            raise RequestError(
                f"region '{printable(place.region)}': the output has {len(content)} bytes, "
                f"shared_memory_byte_size is {place.size}"
            )
        begin = region.offset + place.offset
        if os.fstat(region.file.descriptor).st_size < begin + len(content):  # otherwise pwrite would lengthen it
            raise RequestError(f"region '{printable(place.region)}' has become shorter than it was registered")
        view = memoryview(content)
        while view:
            try:
                written = os.pwrite(region.file.descriptor, view, begin)
            except OSError as error:
                raise RequestError(
                    f"region '{printable(place.region)}' cannot be written ({error.strerror})"
                ) from error
            view, begin = view[written:], begin + written

    def _find(self, place: RegionSlice) -> SharedRegion:
        with self._lock:
            region = self._regions.get(place.region)
        if region is None:
            raise RequestError(f"no shared memory region '{printable(place.region)}' is registered")
        if place.offset < 0 or place.size < 0 or place.offset + place.size > region.size:
            raise RequestError(
                f"region '{printable(place.region)}' has {region.size} bytes, expected at least "
                f"{place.offset + place.size} (shared_memory_offset and shared_memory_byte_size)"
            )
        return region


def region_slice_of(parameters: dict[str, Any], name: str) -> RegionSlice | None:
    """The slice that a tensor's parameters name; None: its data is in the request."""
    region = parameters.get("shared_memory_region")
    if region is None:
        return None
    numbers = [parameters.get("shared_memory_offset", 0), parameters.get("shared_memory_byte_size")]
    if not isinstance(region, str) or any(type(number) is not int or not 0 <= number < 1 << 62 for number in numbers):
        raise RequestError(
            f"tensor '{printable(name)}': expected shared_memory_region as a string, shared_memory_byte_size and "
            "shared_memory_offset as whole numbers of bytes"
        )
    return RegionSlice(region, *numbers)


def refuse_region(place: RegionSlice) -> memoryview:
    """The `read` of clients that may not use shared memory."""
    raise RequestError(f"region '{printable(place.region)}': shared memory is not available here; send the bytes")


class RegionAccess(NamedTuple):
    """`regions` with one client's permissions; is_local() is called only for clients that name a region, reserve() with
    the bytes that are about to be read."""

    regions: SharedRegions
    policy: SharedMemoryPolicy
    is_local: Callable[[], bool]
    reserve: Callable[[int], None]

    def read(self, place: RegionSlice) -> memoryview:
        self.check_access([place])
        self.reserve(place.size)
        return self.regions.read(place)

    def check_access(self, places: Iterable[RegionSlice | None]) -> None:
        """RequestError where this client may not use one of the slices."""
        for place in places:
            if place is not None and not is_allowed(self.policy, self.is_local()):
                refuse_region(place)


def refusal_text(policy: SharedMemoryPolicy) -> str:
    """The error for clients that may not use shared memory."""
    why = "switched off (--shared-memory)" if policy == "off" else "available to clients on this host only"
    return f"shared memory is {why}; send the bytes"


def is_allowed(policy: SharedMemoryPolicy, local: bool) -> bool:
    """Whether a client may use shared memory; local: it is on this host (loopback, or a Unix socket)."""
    return policy == "on" or (policy == "local" and local)
