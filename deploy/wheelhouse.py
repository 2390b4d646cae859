"""A hash-locked list -> a folder of wheels, downloaded once: so that an image is built without a network.

Knows nothing of Docker. pip finds the packages as it is configured on this machine.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from deploy import Say
from toolchain.errors import DockerError
from toolchain.records.files import digest_of, folder_made_whole

PYTHON = "3.11"  # of the base image
PLATFORMS = ("manylinux_2_34", "manylinux_2_31", "manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


def toolchain_home() -> Path:
    """Where what can be made again is kept: `.toolchain` here, or $TOOLCHAIN_HOME."""
    return Path(os.environ.get("TOOLCHAIN_HOME", ".toolchain"))


def wheelhouse(locks: Sequence[Path], say: Say, home: Path | None = None) -> Path:
    """The folder with a wheel for each line of `locks`; every hash is checked, also when the folder was there."""
    named = sha256("\n".join((*(lock.read_text() for lock in locks), PYTHON, *PLATFORMS)).encode()).hexdigest()[:16]
    folder = (home or toolchain_home()) / "wheelhouse" / named
    if not folder.is_dir():
        say(f"downloading the image's wheels ({', '.join(lock.name for lock in locks)})")
        with folder_made_whole(folder) as temporary:
            for lock in locks:
                _download(lock, temporary)
    _check(folder, locks)
    return folder


def _download(lock: Path, folder: Path, machine: str = "x86_64") -> None:
    options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--quiet"]
    target = [
        "--implementation=cp",
        f"--python-version={PYTHON}",
        *(f"--platform={name}_{machine}" for name in PLATFORMS),
    ]
    command = [sys.executable, "-m", "pip", "download", *options, *target, f"--requirement={lock}", f"--dest={folder}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        last = " ".join(words[-1:]) or f"exit {done.returncode}"
        raise DockerError(f"{lock}: the wheels could not be downloaded ({last}); check the network and pip's settings")


def _check(folder: Path, locks: Sequence[Path]) -> None:
    known = {found for lock in locks for found in HASH.findall(lock.read_text())}
    for wheel in sorted(folder.glob("*.whl")):
        if digest_of(wheel) not in known:
            raise DockerError(f"{wheel}: its hash is in no lock; remove {folder} and try again")
