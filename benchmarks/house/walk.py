"""The walk of a build job: which of our modules it enters from `build` to the bundle, and how often one again.

`python -m benchmarks.house.walk` builds a small recipe for the null target under sys.setprofile. An entry is a call of
a function that is handed the job; entries of one module in a row are one stay; a stay in a module that was left before
is a return.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple
from unittest.mock import patch

from tests.pictures import write_pictures
from toolchain.build.pipeline import build
from toolchain.job.job import BuildJob

MODEL = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.conv(x).relu().mean((2, 3)))

def net():
    return Net()
"""
RECIPE = """
name = "walk"
[model]
source = "model.py:net"
[input]
height = 8
width = 8
[data]
name = "folder"
path = "pictures"
[[step]]
finetune = { epochs = 1, batch_size = 8 }
[[step]]
quantize = { samples = 8 }
[build]
max_accuracy_loss = 100
"""


class Walk(NamedTuple):
    """stays: modules in the order of the walk; functions: how many are handed the job."""

    stays: tuple[str, ...]
    functions: int

    @property
    def returns(self) -> int:
        return len(self.stays) - len(set(self.stays))


def walk() -> Walk:
    """Of one build from nothing, in a folder of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_pictures(folder, 8)
        (folder / "model.py").write_text(MODEL)
        (folder / "walk.toml").write_text(RECIPE)
        with patch.dict(os.environ, TOOLCHAIN_HOME=str(folder / "home")), _entries() as entries:
            build(folder / "walk.toml", "null", None)
    stays = [module for at, (module, _) in enumerate(entries) if not at or module != entries[at - 1][0]]
    return Walk(tuple(stays), len(set(entries)))


@contextmanager
def _entries() -> Iterator[list[tuple[str, str]]]:
    """(module, function) of each call that is handed a BuildJob while the block runs."""
    entries: list[tuple[str, str]] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name.startswith("<") or code.co_filename.startswith("<"):  # nothing to read
            return
        arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(isinstance(frame.f_locals.get(name), BuildJob) for name in arguments):
            module = str(frame.f_globals["__name__"])
            if module.split(".", maxsplit=1)[0] in ("toolchain", "deploy"):
                entries.append((module, code.co_qualname))

    sys.setprofile(note)
    try:
        yield entries
    finally:
        sys.setprofile(None)


def main() -> None:
    found = walk()
    print("\n".join(found.stays))
    modules = len(set(found.stays))
    print(f"{len(found.stays)} stays in {modules} modules, {found.returns} returns; {found.functions} functions")


if __name__ == "__main__":
    main()
