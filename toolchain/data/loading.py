"""The table of data sets, and how to fetch and load one.

Knows where a data set is stored; only its own module knows what is in it.
"""

import fcntl
import logging
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
from toolchain.recipe import DataSpec
from toolchain.records.storage import atomic_folder
from toolchain.records.tensors import Preprocessing

logger = logging.getLogger(__name__)


MODULES = {
    "cifar10": "toolchain.data.cifar10",
    "svhn": "toolchain.data.svhn",
    "fashion-mnist": "toolchain.data.fashion_mnist",
    "imagenet-photos": "toolchain.data.imagenet_photos",
    "folder": "toolchain.data.own.folder",
    "csv": "toolchain.data.own.csv_list",
    "npz": "toolchain.data.own.npz",
    "idx": "toolchain.data.own.idx",
    "images": "toolchain.data.own.images",
}
NAMES = tuple(MODULES)


def load(
    spec: DataSpec | str,
    preprocessing: Preprocessing | None = None,
    base: Path | None = None,
) -> DataSet:
    """The data set, fetched first when it is not on this machine.

    preprocessing: what the model takes as input; images of another size are resized when indexed. base: the folder that
    a relative path starts from (the recipe's). DataError names what is missing, corrupt or unsuitable.
    """
    spec = DataSpec(spec) if isinstance(spec, str) else spec
    module = _import_module(spec.name)
    if not module.SOURCES:
        if spec.path is None:
            raise DataError(
                f'{spec.name}: needs the path of your images: data = {{ name = "{spec.name}", path = "…" }}'
            )
        # recorded as in the recipe: the same wherever it is built, and no path of the build machine
        return replace(module.open_dataset((base or Path()) / spec.path, preprocessing), source=spec.path)
    if spec.path is not None:
        raise DataError(f'{spec.name}: takes no path ({spec.path!r}); remove it, or use name = "folder"')
    folder = _folder_of(spec.name, None)
    if not has_provenance(folder):
        fetch(spec.name)
    return module.open_dataset(folder, preprocessing)


def fetch(name: str, source: str = "auto", home: Path | None = None) -> Path:
    """Fetch, verify and unpack a data set into `<home>/data/<name>`, completely or not at all; returns the folder.

    source: `official`, `mirror`, or `auto` for the first that answers. A data set that is there and intact is kept.
    """
    module, folder = _import_module(name), _folder_of(name, home)
    sources = _candidate_sources(name, source, module)
    archives = folder.parent / ".archives" / name
    try:
        archives.mkdir(parents=True, exist_ok=True)
        with _lock(archives.with_suffix(".lock"), name):
            if _is_fetched(folder, name, sources):
                return folder
            _fetch_from(sources, module, name, archives, folder)
            rmtree(archives)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: {error.strerror or error}; {name} was not fetched") from error
    return folder


def _fetch_from(sources: list[str], module: DataSetModule, name: str, archives: Path, folder: Path) -> None:
    """Fetch from the first source that has it; DataError lists why each failed."""
    failures = []
    for source in sources:
        logger.info(f"{name}: fetching, {source} source")
        try:
            _fetch_one(source, module, name, archives / source, folder)
            return
        except DataError as error:
            logger.info(f"{name}: {source}: {error}")
            failures.append(f"{source}: {error}")
    retry = f"once that is fixed: toolchain data fetch {name}"
    raise DataError(f"{name} could not be fetched: {'; '.join(failures)}; {retry}")


def _fetch_one(source: str, module: DataSetModule, name: str, archives: Path, folder: Path) -> None:
    archives.mkdir(exist_ok=True)
    digests = module.SOURCES[source].archives.obtain(archives)
    logger.info(f"{name}: checked {', '.join(digests)}; unpacking")
    with atomic_folder(folder) as temporary:
        module.SOURCES[source].unpack(archives, temporary)
        write_provenance(temporary, name, source, digests)
    logger.info(f"{name}: from its {source} source, in {folder}")


def _is_fetched(folder: Path, name: str, sources: list[str]) -> bool:
    if not has_provenance(folder):
        return False
    try:
        provenance = verify_provenance(folder, name)
    except DataError as error:
        logger.info(str(error))
        return False
    if provenance.source in sources:
        logger.info(f"{name}: already here, from its {provenance.source} source, in {folder}")
    return provenance.source in sources


def _candidate_sources(name: str, source: str, module: DataSetModule) -> list[str]:
    if not module.SOURCES:
        raise DataError(f'{name}: your own images, nothing to fetch; give their path: data = {{ path = "…" }}')
    if source == "auto":
        return list(module.SOURCES)
    if source not in module.SOURCES:
        raise DataError(f"{name}: no source {source!r}; it has: {', '.join(module.SOURCES)}, auto")
    return [source]


def _import_module(name: str) -> DataSetModule:
    if name not in MODULES:
        near = get_close_matches(name, NAMES, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise DataError(f"no data set {name!r}; the data sets are: {', '.join(NAMES)}{hint}")
    return cast("DataSetModule", import_module(MODULES[name]))


def _folder_of(name: str, home: Path | None) -> Path:
    return (home or default_home()).absolute() / "data" / name


@contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    """Lets one process at a time fetch a data set; two would write to the same partial downloads."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info(f"{name}: waiting for another process that is fetching it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
