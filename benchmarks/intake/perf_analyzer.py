"""NVIDIA's perf_analyzer, of tritonclient's last wheel for this C library, with the two libraries that it misses.

The index's own `perf-analyzer` is an empty placeholder; newer wheels need glibc 2.38. Installed pinned into the state
directory, once: two wheels, and one of Debian's packages, unpacked and not installed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from benchmarks import logger
from toolchain.paths import home

WHEELS = ("tritonclient==2.51.0", "nvidia-cuda-runtime-cu12==12.6.77")
PACKAGE = "libb64-0d"
REQUESTS = 20


class PerfAnalyzer(NamedTuple):
    """libraries: folders of what it is linked with."""

    program: Path
    libraries: tuple[Path, ...]

    def run(self, *words: str) -> str:
        """What it prints; CalledProcessError where a request failed."""
        paths = ":".join(map(str, self.libraries))
        command = [str(self.program), *words, "-b", "1", "--request-count", str(REQUESTS)]
        environment = {**os.environ, "LD_LIBRARY_PATH": paths}
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout


def install_perf_analyzer() -> PerfAnalyzer:
    """CalledProcessError where a registry has it no more, or has no Debian."""
    folder = (home() / "peers" / "perf_analyzer").absolute()
    program = folder / "bin" / "perf_analyzer"
    if not (folder / "complete").is_file():
        logger.info("clients: perf_analyzer and its libraries, once")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={folder}", *WHEELS]
        for command in (pip, ["apt-get", "download", "-q", PACKAGE]):
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (archive,) = folder.glob(f"{PACKAGE}_*.deb")
        subprocess.run(["dpkg", "-x", archive, folder / "debian"], check=True, capture_output=True)
        program.chmod(0o755)
        (folder / "complete").touch()
    return PerfAnalyzer(program, tuple({path.parent for path in folder.rglob("lib*.so.*")}))
