"""A piece of work whose result is kept: what it is, what it depends on, and what it left.

Apart from stage_cache.py so that what makes a stage depends on no cache.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

StageRecordT = TypeVar("StageRecordT")


@dataclass(frozen=True)
class Stage(Generic[StageRecordT]):
    """A piece of work whose result is kept. name: of its folders; title: for a person; kind: the type of its record.

    inputs: what the result depends on besides the code. make(folder, work): writes files into `folder` and returns the
    record; its module, with all that it reaches, is the code that the result depends on, and so are the modules of
    `uses`: functions and classes that make() was handed.
    """

    name: str
    title: str
    kind: Any  # type[RecordT], which a union such as `float | None` is not
    inputs: dict[str, Any]
    make: Callable[[Path, Path], StageRecordT]
    uses: tuple[Callable[..., Any], ...] = ()

    @property
    def modules(self) -> tuple[str, ...]:
        return tuple(function.__module__ for function in (self.make, *self.uses))


@dataclass(frozen=True)
class StageResult(Generic[StageRecordT]):
    """What a stage made: the files in `folder`, and its record."""

    folder: Path
    record: StageRecordT

    @property
    def key(self) -> str:
        """Stands for the result among the inputs of what is made of it."""
        return self.folder.name


def tool_versions(*packages: str) -> dict[str, str]:
    """The installed version of each package; '' for one that is not installed."""
    return {package: _version(package) for package in packages}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
