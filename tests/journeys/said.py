"""What a command ended with, and what every refusal must look like."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def last(self) -> Any:
        """The JSON document of the last line on stdout."""
        assert self.code == 0, self.err
        return json.loads(self.out.splitlines()[-1])

    def refusal(self, code: int = 1) -> str:
        """The one line after the progress lines, without the program's name; nothing on stdout, no traceback."""
        lines = self.err.splitlines()
        assert (self.code, self.out) == (code, ""), self
        assert lines[-1].startswith("toolchain: "), self.err
        assert [line for line in lines if line.startswith(("toolchain: ", "Traceback", '  File "'))] == lines[-1:]
        return lines[-1].removeprefix("toolchain: ")


def half_written(home: Path) -> list[str]:
    """Temporary files and folders, work that nothing can go on from, and bundles without a manifest."""
    places = sorted(home.rglob("*")) if home.is_dir() else []
    temporary = [path for path in places if path.name.startswith(".")]
    empty = [path for path in places if path.suffix == ".work" and not any(path.iterdir())]
    bundles = [path for path in places if path.suffix == ".bundle" and not (path / "manifest.json").is_file()]
    return [str(path.relative_to(home)) for path in (*temporary, *empty, *bundles)]
