"""Writes into a lock how much is downloaded for it, so that set-up can say so before it begins: `make lock` runs this.

Usage: download_size.py PYLOCK LOCK. PYLOCK: what `uv pip compile --format pylock.toml` wrote for the same input; it has
the size of each file. What counts is the file that this Python takes on this machine.
"""

import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename

HEAD = "# download: "


def file_size(package: dict[str, Any], rank: dict[object, int]) -> int:
    """Bytes of the wheel that fits best, else of the source package."""
    fitting = []
    for wheel in package.get("wheels", ()):
        name = wheel.get("name") or wheel["url"].rsplit("/", 1)[1]
        places = [rank[tag] for tag in parse_wheel_filename(name)[3] if tag in rank]
        if places:
            fitting.append((min(places), int(wheel["size"])))
    return min(fitting)[1] if fitting else int(package["sdist"]["size"])


def main(pylock: Path, lock: Path) -> None:
    rank: dict[object, int] = {tag: place for place, tag in enumerate(sys_tags())}
    packages = tomllib.loads(pylock.read_text())["packages"]
    size_bytes = sum(file_size(package, rank) for package in packages)
    lines = [line for line in lock.read_text().splitlines(keepends=True) if not line.startswith(HEAD)]
    lock.write_text(f"{HEAD}{size_bytes / 1e9:.2f} GB, {len(packages)} packages\n" + "".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
