"""The table of data sets; load and fetch them.

Knows where a data set is kept; what is in it, its own module knows.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from typing import cast

from toolchain.data.dataset import DataSet, DataSetModule
from toolchain.data.provenance import has_provenance, verify_provenance, write_provenance
from toolchain.errors import DataError
from toolchain.paths import home as default_home
from toolchain.progress import say
from toolchain.recipe import DataSpec
from toolchain.records.storage import atomic_folder
from toolchain.records.tensors import Preprocessing

MODULES = {
    "cifar10": "toolchain.data.cifar10",
    "svhn": "toolchain.data.svhn",
    "fashion-mnist": "toolchain.data.fashion_mnist",
    "folder": "toolchain.data.folder",
    "imagenet-photos": "toolchain.data.imagenet_photos",
}
NAMES = tuple(MODULES)


def load(
    spec: DataSpec | str,
    preprocessing: Preprocessing | None = None,
    base: Path | None = None,
) -> DataSet:
    """The data set, fetched first when it is not here.

    preprocessing: what the network takes; pictures that differ are fitted when indexed. base: the folder that a
    relative path is relative to (the recipe's). DataError says what is missing, corrupt or unfit.
    """
    spec = DataSpec(spec) if isinstance(spec, str) else spec
    room = _import_module(spec.name)
    if not room.SOURCES:
        if spec.path is None:
            raise DataError(
                f'{spec.name}: needs the path of your pictures: data = {{ name = "{spec.name}", path = "…" }}'
            )
        # named as the recipe does: the same from wherever it is built, and no path of the build machine
        return replace(room.open_dataset((base or Path()) / spec.path, preprocessing), source=spec.path)
    if spec.path is not None:
        raise DataError(f'{spec.name}: takes no path ({spec.path!r}); remove it, or use name = "folder"')
    folder = _folder_of(spec.name, None)
    if not has_provenance(folder):
        fetch(spec.name)
    return room.open_dataset(folder, preprocessing)


def fetch(name: str, source: str = "auto", home: Path | None = None) -> Path:
    """Fetch, check and unpack a data set into `<home>/data/<name>`, whole or not at all; the folder.

    source: `official`, `mirror`, or `auto`: the first of them that answers. What is here and sound is left as it is.
    """
    room, folder = _import_module(name), _folder_of(name, home)
    wanted = _candidate_sources(name, source, room)
    archives = folder.parent / ".archives" / name
    try:
        archives.mkdir(parents=True, exist_ok=True)
        with _lock(archives.with_suffix(".lock"), name):
            if _is_fetched(folder, name, wanted):
                return folder
            _fetch_from(wanted, room, name, archives, folder)
            rmtree(archives)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}; {name} was not fetched") from error
    return folder


def _fetch_from(wanted: list[str], room: DataSetModule, name: str, archives: Path, folder: Path) -> None:
    """From the first source that has it."""
    failures = []
    for source in wanted:
        say(f"{name}: fetching, {source} source")
        try:
            _fetch_one(source, room, name, archives / source, folder)
            return
        except DataError as error:
            say(f"{name}: {source}: {error}")
            failures.append(f"{source}: {error}")
    again = f"once that is mended: toolchain data fetch {name}"
    raise DataError(f"{name} could not be fetched: {'; '.join(failures)}; {again}")


def _fetch_one(source: str, room: DataSetModule, name: str, archives: Path, folder: Path) -> None:
    archives.mkdir(exist_ok=True)
    digests = room.SOURCES[source].archives.obtain(archives)
    say(f"{name}: checked {', '.join(digests)}; unpacking")
    with atomic_folder(folder) as made:
        room.SOURCES[source].unpack(archives, made)
        write_provenance(made, name, source, digests)
    say(f"{name}: from its {source} source, in {folder}")


def _is_fetched(folder: Path, name: str, wanted: list[str]) -> bool:
    if not has_provenance(folder):
        return False
    try:
        kept = verify_provenance(folder, name)
    except DataError as error:
        say(str(error))
        return False
    if kept.source in wanted:
        say(f"{name}: already here, from its {kept.source} source, in {folder}")
    return kept.source in wanted


def _candidate_sources(name: str, source: str, room: DataSetModule) -> list[str]:
    if not room.SOURCES:
        raise DataError(f'{name}: is your own pictures, nothing to fetch; name their path: data = {{ path = "…" }}')
    if source == "auto":
        return list(room.SOURCES)
    if source not in room.SOURCES:
        raise DataError(f"{name}: no source {source!r}; it has: {', '.join(room.SOURCES)}, auto")
    return [source]


def _import_module(name: str) -> DataSetModule:
    if name not in MODULES:
        near = get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"no data set {name!r}; there are: {', '.join(NAMES)}{hint}")
    return cast("DataSetModule", import_module(MODULES[name]))


def _folder_of(name: str, home: Path | None) -> Path:
    return (home or default_home()).absolute() / "data" / name


@contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    """One process at a time fetches a data set: two would write into each other's part files."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: waiting for another process that is fetching it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
