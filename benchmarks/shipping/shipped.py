"""A rack of simulated edge servers for a benchmark: releases to ship and commands as a user types them."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from deploy.docker.engine import connect
from deploy.images.build import build_image
from tests.bundles import null_bundle
from tests.edges import Edge, edges
from tests.shipped import MODEL, tag
from toolchain.paths import home
from toolchain.records.bundle import file_record, write_bundle

ROOT = Path(__file__).parents[2]
POLICY = "[policy]\nwaves = [1]\nminutes = 2.0\nbudget = 0.2\ninconclusive = 'go'\n"
WEIGHTS = "weights.bin"


@dataclass
class Rack:
    """folder: holds the bundles, and commands run there. edges: the servers edge1, edge2 and so on."""

    folder: Path
    edges: list[Edge]

    def build(self, release: str, delay_ms: float, weights_bytes: int = 0) -> int:
        """Build an image of the null engine with random weights; returns the size of its bundle."""
        plain = null_bundle(self.folder / f"{release}.plain", delay_ms, release, name=MODEL)
        weights = self.folder / f"{release}.parts" / WEIGHTS
        weights.parent.mkdir()
        weights.write_bytes(np.random.default_rng(int(release)).bytes(weights_bytes))
        parts = [*(plain.folder / file.path for file in plain.manifest.files), weights]
        manifest = msgspec.structs.replace(plain.manifest, files=tuple(file_record(path) for path in parts))
        bundle = write_bundle(self.folder / f"{release}.bundle", manifest, parts)
        build_image(bundle, tag(release))
        return sum(path.stat().st_size for path in bundle.folder.iterdir())

    def start(self, *words: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "toolchain", *words]
        return subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        process = self.start(*words)
        out, err = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def run_for_server(self, *words: str) -> dict[str, Any]:
        """The result for one server of a command that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        (results,) = json.loads(done.stdout.splitlines()[-1])["servers"]
        return dict(results)

    def ship(
        self, release: str, server: str = "", *flags: str, despite: str = "the gate is not what is measured"
    ) -> Any:
        """Ship a release; the results by server."""
        words = ["ship", tag(release), *filter(None, [server]), "--skip-gate", f"--reason={despite}", *flags]
        words += ["--allow-downgrade"]  # releases are shipped in any order
        if server:
            return self.run_for_server(*words)
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])["servers"]

    def notes(self, server: str) -> list[dict[str, Any]]:
        done = self.run("audit", server)
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout.splitlines()[-1])["servers"][server])


@contextmanager
def rack(count: int, disks_mb: int | None = None) -> Iterator[Rack]:
    """`count` servers, each on a separate disk of `disks` MB each if given."""
    before = {name: os.environ.get(name) for name in ("PATH", "TOOLCHAIN_HOME")}
    wheelhouse = home() / "wheelhouse"
    with tempfile.TemporaryDirectory(prefix="bench-ship-") as at:
        folder = Path(at)
        disks = dict.fromkeys(range(1, count + 1), disks_mb) if disks_mb else {}
        with edges(folder, count, disks) as servers:
            os.environ |= {"PATH": f"{folder}/bin:{before['PATH']}", "TOOLCHAIN_HOME": str(folder / "home")}
            (folder / "home").mkdir()
            wheelhouse.mkdir(parents=True, exist_ok=True)
            (folder / "home" / "wheelhouse").symlink_to(wheelhouse.absolute())
            (folder / "inventory.toml").write_text(POLICY + "".join(_listed(edge) for edge in servers))
            try:
                yield Rack(folder, servers)
            finally:
                _restore(before)
                with closing(connect()) as client:
                    for image in client.images.list(name=tag("*").partition(":")[0]):
                        for name in image.tags:
                            client.images.remove(name, force=True)


def _listed(edge: Edge) -> str:
    return f"[[server]]\nname = '{edge.name}'\naddress = '{edge.address}'\nsocket = '{edge.socket}'\n"


def _restore(before: dict[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
