"""A stage's result is kept under the digest of what it depends on: inputs, options, tools, and the code that makes it.

Knows nothing of what a stage makes. A result is a folder with a record in it, made whole or not at all; next to it,
while the stage is unfinished, lies a work folder that survives an interruption. Two builds at once wait for each other,
stage by stage. What this user did not keep (seal.py) is never read, and made again.
"""

import fcntl
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from shutil import rmtree

import msgspec

from toolchain.interrupts import check
from toolchain.job.code_digest import source_tree
from toolchain.job.seal import SEAL, is_own_work, is_sealed, seal_folder, seal_work
from toolchain.job.stage import Stage, StageRecordT, StageResult
from toolchain.records.storage import atomic_folder, encode_record

logger = logging.getLogger(__name__)

RECORD = "record.json"


@dataclass(frozen=True)
class StageCache:
    """The results below `folder`. seed: what every stage's random numbers are drawn from. Logs each stage."""

    folder: Path
    seed: int = 0

    def run(self, stage: Stage[StageRecordT]) -> StageResult[StageRecordT]:
        """The stage's result, made when it is not there yet."""
        check()
        result = self.place(stage)
        work, lock = (self.folder / f"{result.name}.{kind}" for kind in ("work", "lock"))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _lock_file(lock, f"{stage.title}: another build is at it, waiting"):
            self._discard_foreign(stage, result, is_sealed(result, result.name))
            self._discard_foreign(stage, work, is_own_work(work))
            if result.is_dir():
                logger.info(f"{stage.title}: unchanged")
                return self.read(stage, result)
            logger.info(f"{stage.title}: going on where it was interrupted" if work.is_dir() else f"{stage.title} ...")
            self._sweep(result)
            if not work.is_dir():
                work.mkdir()
                seal_work(work)
            try:
                with atomic_folder(result) as folder:
                    (folder / RECORD).write_bytes(encode_record(stage.make(folder, work)))
                    seal_folder(folder, result.name)
            except BaseException:
                if {path.name for path in work.iterdir()} <= {SEAL}:  # else the next run goes on from it
                    rmtree(work, ignore_errors=True)
                raise
            rmtree(work, ignore_errors=True)
        return self.read(stage, result)

    def read(self, stage: Stage[StageRecordT], folder: Path) -> StageResult[StageRecordT]:
        """The result that `stage` left in `folder`."""
        return StageResult(folder, msgspec.json.decode((folder / RECORD).read_bytes(), type=stage.kind))

    def place(self, stage: Stage[StageRecordT]) -> Path:
        """Where the stage's folder is, or would be."""
        code = source_tree(self.folder).digest(*stage.modules)
        inputs = encode_record({"stage": stage.name, "seed": self.seed, "code": code, **stage.inputs})
        return self.folder / f"{stage.name}-{sha256(inputs).hexdigest()[:20]}"

    def _discard_foreign(self, stage: Stage[StageRecordT], place: Path, is_own: bool) -> None:
        """Remove what lies in the stage's place and was not kept there by this user's builds."""
        if (place.exists() or place.is_symlink()) and not is_own:
            logger.info(f"{stage.title}: {place.name} was not kept by this user's builds, or changed since; made again")
            _remove(place)

    def _sweep(self, result: Path) -> None:
        """Remove what a killed build left half made; its lock is ours, so nobody is still at it."""
        for half in self.folder.glob(f".{result.name}.*"):
            rmtree(half)


def _remove(path: Path) -> None:
    """A folder with its content; a link or a file itself."""
    if path.is_dir() and not path.is_symlink():
        rmtree(path)
    else:
        path.unlink()


@contextmanager
def _lock_file(path: Path, waiting: str) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info(waiting)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
