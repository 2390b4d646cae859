"""Downloads the wheels of hash-locked lists once, so that images are built without a network.

Uses pip as it is configured on this machine.
"""

import logging
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from shutil import move

from toolchain.errors import DockerError
from toolchain.records.storage import atomic_folder, digest_of

logger = logging.getLogger(__name__)


PYTHON = "3.11"  # of the base image
PLATFORMS = ("manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
BUILT = "built.txt"
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def toolchain_home() -> Path:
    """The folder for what can be rebuilt: `.toolchain` here, or $TOOLCHAIN_HOME."""
    return Path(os.environ.get("TOOLCHAIN_HOME", ".toolchain"))


def fill_wheelhouse(locks: Sequence[Path], home: Path | None = None, sources: Sequence[Path] = ()) -> Path:
    """The folder with a wheel for each line of `locks`; every hash is checked, even if the folder already existed.
    sources: locks of source packages, which are built here and listed in BUILT."""
    texts = [lock.read_text() for lock in (*locks, *sources)]
    named = sha256("\n".join((*texts, PYTHON, *PLATFORMS)).encode()).hexdigest()[:16]
    folder = (home or toolchain_home()) / "wheelhouse" / named
    if not folder.is_dir():
        logger.info(f"downloading the image's wheels ({', '.join(lock.name for lock in locks)})")
        with atomic_folder(folder) as temporary:
            for lock in locks:
                _download(lock, temporary)
            for lock in sources:
                _build(lock, temporary)
    _check_hashes(folder, [*locks, *folder.glob(BUILT)])
    return folder


def built_lines(folder: Path) -> str:
    """The wheels built from source packages, as lines of a hash-locked list."""
    listed = folder / BUILT
    return listed.read_text() if listed.is_file() else ""


def _download(lock: Path, folder: Path, machine: str = "x86_64") -> None:
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    target = [
        "--implementation=cp",
        f"--python-version={PYTHON}",
        *(f"--platform={name}_{machine}" for name in PLATFORMS),
    ]
    command = [sys.executable, "-m", "pip", "download", *options, *target, f"--requirement={lock}", f"--dest={folder}"]
    _pip(command, f"{lock}: the wheels could not be downloaded", "check the network and pip's settings")


def _build(lock: Path, folder: Path) -> None:
    logger.info(f"building the image's source packages ({lock.name}); their build steps may download more")
    options = ["--require-hashes", "--no-deps", "--disable-pip-version-check", "--quiet"]
    with tempfile.TemporaryDirectory(prefix="wheels-") as made:
        command = [sys.executable, "-m", "pip", "wheel", *options, f"--requirement={lock}", f"--wheel-dir={made}"]
        _pip(command, f"{lock}: could not be built", "the vendor's own package index must be reachable from here")
        lines = []
        for wheel in sorted(Path(made).glob("*.whl")):
            name, version = wheel.name.split("-")[:2]
            lines.append(f"{name}=={version} --hash=sha256:{digest_of(wheel)}\n")
            move(wheel, folder / wheel.name)
    with (folder / BUILT).open("a") as listed:
        listed.writelines(lines)


def _pip(command: Sequence[str], failed: str, advice: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        words = [line for line in lines if line.startswith("ERROR")] or lines
        last = " ".join(words[-1:]) or f"exit {done.returncode}"
        raise DockerError(f"{failed} ({last}); {advice}")


def _check_hashes(folder: Path, locks: Sequence[Path]) -> None:
    known = {found for lock in locks for found in HASH.findall(lock.read_text())}
    for wheel in sorted(folder.glob("*.whl")):
        if digest_of(wheel) not in known:
            raise DockerError(f"{wheel}: its hash is not in any lock file; remove {folder} and try again")
