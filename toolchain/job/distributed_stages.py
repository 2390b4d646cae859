"""Stages made under torchrun: the first process decides and keeps, the others take part or wait.

Machines need no folder in common: the first process of each (its leader) keeps this machine's cache, and what it lacks
it is sent. Knows nothing of what a stage makes; the messages between processes are those of compress/distributed.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from toolchain.errors import RecipeError
from toolchain.job.seal import is_sealed, seal_folder
from toolchain.job.stage import Stage, StageRecordT, StageResult
from toolchain.job.stage_cache import StageCache
from toolchain.records.storage import atomic_folder, write_atomically

StageValueT = TypeVar("StageValueT")
Files = dict[str, bytes]


class ProcessGroup(Protocol):
    """The processes that torchrun started, seen from one of them."""

    @property
    def size(self) -> int: ...
    @property
    def is_first(self) -> bool: ...
    @property
    def is_local_first(self) -> bool: ...
    def broadcast(self, value: StageValueT) -> StageValueT: ...
    def all_gather(self, value: StageValueT) -> list[StageValueT]: ...


@dataclass(frozen=True)
class DistributedStageCache:
    """Every process runs the same stages in the same order; all get a folder with the same content. One process alone
    has a plain StageCache, which is `local`."""

    local: StageCache
    group: ProcessGroup

    def run_in_first(self, stage: Stage[StageRecordT]) -> StageResult[StageRecordT]:
        """The first process makes it. RecipeError when a process would make something else of these inputs."""
        if self.group.size == 1:
            return self.local.run(stage)
        names = self.group.all_gather(self.local.place(stage).name)
        if len(set(names)) > 1:
            raise RecipeError(
                f"{stage.title}: the machines differ in code, data, model, paths or package versions; make them the "
                "same"
            )
        return self._run(stage, lambda _: None)

    def run_in_all(self, stage: Stage[StageRecordT]) -> StageResult[StageRecordT]:
        """All make it together. Where they differ (a measured latency, a device), the first process decides."""
        if self.group.size == 1:
            return self.local.run(stage)

        def take_part(work: Files) -> None:
            place = self.local.place(stage)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as scratch:
                folders = Path(scratch, "result"), Path(scratch, "work")
                for folder in folders:
                    folder.mkdir()
                unpack(work, folders[1])  # it goes on from where the first process does
                stage.make(*folders)

        return self._run(stage, take_part)

    def _run(self, stage: Stage[StageRecordT], take_part: Callable[[Files], None]) -> StageResult[StageRecordT]:
        group, announced = self.group, False
        nothing: Files | None = None

        @wraps(stage.make)  # of the same module: the place stays the stage's own
        def announce_and_make(folder: Path, work: Path) -> StageRecordT:
            nonlocal announced
            announced = True
            group.broadcast(pack(work))
            return stage.make(folder, work)

        place = self.local.place(stage)
        if group.is_first:
            self.local.run(replace(stage, make=announce_and_make))
            if not announced:
                group.broadcast(nothing)
        elif (work := group.broadcast(nothing)) is not None:
            take_part(work)
        return self.local.read(stage, self._distribute(place))

    def _distribute(self, result: Path) -> Path:
        """The first process's result, on every machine."""
        group = self.group
        place = self.local.folder / group.broadcast(result.name)
        lacking = group.is_local_first and not is_sealed(place, place.name)
        if any(group.all_gather(lacking)):
            files = group.broadcast(pack(place) if group.is_first else {})
            if lacking:
                with atomic_folder(place) as folder:
                    unpack(files, folder)
                    seal_folder(folder, place.name)
            group.all_gather(True)  # nobody reads before it is there
        return place


def pack(folder: Path) -> Files:
    """Every file below `folder`, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpack(files: Files, folder: Path) -> None:
    for name, content in files.items():
        write_atomically(folder / name, content)
