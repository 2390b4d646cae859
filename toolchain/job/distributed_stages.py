"""Stages made under torchrun: the first process decides and keeps, the others take part or wait.

Machines need no folder in common: the first process of each (its leader) keeps this machine's cache, and what it lacks
it is sent. Knows nothing of what a stage makes; the world's messages are compress/world.py's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol, TypeVar

from toolchain.errors import RecipeError
from toolchain.job.stages import Make, Stages
from toolchain.records.storage import atomic_folder, write_atomically

ValueT = TypeVar("ValueT")
Files = dict[str, bytes]


class World(Protocol):
    """The processes that torchrun started, seen from one of them."""

    @property
    def size(self) -> int: ...
    @property
    def is_first(self) -> bool: ...
    @property
    def is_local_first(self) -> bool: ...
    def broadcast(self, value: ValueT) -> ValueT: ...
    def all_gather(self, value: ValueT) -> list[ValueT]: ...


@dataclass(frozen=True)
class SharedStages:
    """Every process calls made() for the same stages in the same order; all get a folder with the same content."""

    here: Stages
    world: World

    def made_by_first(self, name: str, title: str, inputs: dict[str, Any], make: Make) -> Path:
        """The first process makes it. RecipeError when a process would make something else of these inputs."""
        names = self.world.all_gather(self.here.place(name, inputs).name)
        if len(set(names)) > 1:
            raise RecipeError(
                f"{title}: the machines differ in code, data, model, paths or package versions; make them the same"
            )
        return self._made(name, title, inputs, make, lambda _: None)

    def made_by_all(self, name: str, title: str, inputs: dict[str, Any], make: Make) -> Path:
        """All make it together. What the first one finds decides, where they differ (a latency measured, a device)."""

        def help_make(work: Files) -> None:
            place = self.here.place(name, inputs)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as scratch:
                folders = Path(scratch, "result"), Path(scratch, "work")
                for folder in folders:
                    folder.mkdir()
                unpacked(work, folders[1])  # it goes on from where the first process does
                make(*folders)

        return self._made(name, title, inputs, make, help_make)

    def _made(
        self, name: str, title: str, inputs: dict[str, Any], make: Make, help_make: Callable[[Files], None]
    ) -> Path:
        world, told = self.world, False
        nothing: Files | None = None

        def make_and_tell(folder: Path, work: Path) -> None:
            nonlocal told
            told = True
            world.broadcast(packed(work))
            make(folder, work)

        result = self.here.place(name, inputs)
        if world.is_first:
            self.here.made(name, title, inputs, make_and_tell)
            if not told:
                world.broadcast(nothing)
        elif (work := world.broadcast(nothing)) is not None:
            help_make(work)
        return self._spread(result)

    def _spread(self, result: Path) -> Path:
        """The first process's result, on every machine."""
        world = self.world
        place = self.here.folder / world.broadcast(result.name)
        lacking = world.is_local_first and not place.is_dir()
        if any(world.all_gather(lacking)):
            files = world.broadcast(packed(place) if world.is_first else {})
            if lacking:
                with atomic_folder(place) as folder:
                    unpacked(files, folder)
            world.all_gather(True)  # nobody reads before it is there
        return place


def packed(folder: Path) -> Files:
    """Every file below `folder`, by its path in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def unpacked(files: Files, folder: Path) -> None:
    for name, content in files.items():
        write_atomically(folder / name, content)
