"""One release from a build host with one engine to a server with another, by the commands that a person types.

Both are machines of tests/edges.py. A step that fails is kept as the one line that its command ended with.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from deploy.docker.archive import write_archive
from deploy.docker.engine import connect
from deploy.images.base import base_image
from deploy.images.content import find_content, saved_image
from tests.bundles import null_bundle
from tests.edges import Edge
from toolchain.errors import ToolchainError

ROOT = Path(__file__).parents[2]
MODEL, PORT = "engines", 8077
RELEASES = {"1": 1.0, "2": 1.0, "3": 1.0}  # by the milliseconds of a request
POLICY = "[policy]\nminutes = 0.5\nbudget = 0.5\ninconclusive = 'go'\n"  # a busy machine tells little in half a minute
PARTIAL_BYTES = 1_000_000  # no image without its lowest layers has more
VERDICTS = ("passed", "inconclusive")
SKIPPED = ("--skip-gate", "--reason=gated before")


class StepError(Exception):
    """What the command said."""


@dataclass
class BuildHost:
    """The machine at which the commands are typed. failed: by step."""

    edge: Edge
    folder: Path
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def engine(self) -> str:
        return self.edge.system.name if self.edge.system else "this machine's"

    def run(self, *words: str, inside: bool = False) -> dict[str, Any]:
        """The command's JSON document. inside: where the ports of the host's containers are. StepError with its last
        line."""
        environment = {
            **os.environ, "DOCKER_HOST": f"unix://{self.edge.socket}", "TOOLCHAIN_HOME": str(self.folder / "home"),
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, "-m", "toolchain", *words]
        done = subprocess.run(
            self.edge.inside(*command) if inside else command,
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        with (self.folder / "commands.log").open("a") as log:
            log.write(f"$ toolchain {' '.join(words)}\n{done.stderr}{done.stdout}\n")
        with suppress(ValueError, IndexError):
            return dict(json.loads(done.stdout.splitlines()[-1]))
        raise StepError((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1])

    def lend_base(self) -> None:
        """The base image from this machine's engine: its packages cannot be fetched from an edge server's network."""
        with closing(connect()) as here, closing(self.edge.client()) as there:
            base = base_image(here)
            with saved_image(here.images.get(base.tag)) as saved, TemporaryFile() as file:
                content = saved.content
                write_archive(saved, content, 0, file, level=0)
                file.seek(0)
                there.images.load(file)
            found = find_content(there, content)
            _expect(found is not None, f"{self.engine} did not load the base image")
            if found:
                found.tag(*base.tag.split(":"))

    def build(self) -> None:
        self.lend_base()
        for release, delay_ms in RELEASES.items():
            bundle = null_bundle(self.folder / f"{release}.bundle", delay_ms, release, name=MODEL)
            self.run("image", str(bundle.folder), f"--tag={tag(release)}")

    def serve(self) -> None:
        """As `toolchain run`, twice: the second time it is running already."""
        try:
            first = self.run("run", tag("1"), f"--port={PORT}", inside=True)
            again = self.run("run", tag("1"), f"--port={PORT}", inside=True)
            if (first["id"], again["cold_start_s"]) != (again["id"], None):
                raise StepError(f"the second run replaced the container of the first: {again}")
        finally:
            with suppress(StepError):
                self.run("stop", MODEL_CONTAINER, inside=True)

    def gate(self) -> None:
        verdict = self.run("gate", tag("2"), f"--against={tag('1')}", "--minutes=0.5", "--anchor=none", "--budget=0.5")
        _expect(verdict["verdict"] in VERDICTS, verdict)

    def list_servers(self, servers: Sequence[Edge]) -> None:
        listed = "".join(
            f"[[server]]\nname = '{one.name}'\naddress = '{one.address}'\nsocket = '{one.socket}'\n" for one in servers
        )
        (self.folder / "inventory.toml").write_text(POLICY + listed)

    def ship_first(self, server: Edge) -> int:
        """Bytes sent."""
        return _live(self.run("ship", tag("1"), server.name), "1")

    def ship_next(self, server: Edge, gated: bool) -> int:
        """Bytes sent; shipped once more, which must change nothing. gated: there, against the first release."""
        sent = _live(self.run("ship", tag("2"), server.name, *([] if gated else SKIPPED)), "2")
        _expect(sent < PARTIAL_BYTES, f"sent {sent / 1e6:.1f} MB, where one layer of a few kB was missing")
        (again,) = self.run("ship", tag("2"), server.name)["servers"]
        _expect(again["outcome"] == "unchanged", again)
        return sent

    def carry(self, server: Edge) -> int:
        """Bytes of the offline bundle that brought the third release."""
        stick = self.folder / f"{server.name}.tar"
        packed = self.run("pack", tag("3"), f"--to={stick}", f"--for={server.name}")
        _live(self.run("unpack", str(stick), server.name, *SKIPPED), "3")
        return int(packed["size_bytes"])

    def roll_back(self, server: Edge) -> int:
        return _live(self.run("rollback", server.name, "--message=tried"), "2")


MODEL_CONTAINER = f"edge-{MODEL}"


def tag(release: str) -> str:
    return f"{MODEL_CONTAINER}:{release}"


def _live(document: dict[str, Any], release: str) -> int:
    (server,) = document["servers"]
    if (server["outcome"], server["live"]) != ("live", release):
        raise StepError(str(server["reason"]))
    return int(server["sent_bytes"])


def _expect(good: bool, found: object) -> None:
    if not good:
        raise StepError(str(found))


@dataclass(frozen=True)
class PairResult:
    """sent_bytes: by step, of those that went well; failed: by step, in the command's own words."""

    host: str
    server: str
    sent_bytes: dict[str, int]
    failed: dict[str, str]


STEPS = ("first", "next", "stick", "rollback")


def try_pair(host: BuildHost, server: Edge, gated: bool = True) -> PairResult:
    """Each step goes on from where the one before it ended; the server is left as it was before. gated: the second
    release, which takes a minute."""
    actions: Sequence[Callable[[Edge], int]] = (
        host.ship_first, partial(host.ship_next, gated=gated), host.carry, host.roll_back
    )  # fmt: skip
    steps = dict(zip(STEPS, actions, strict=True))
    sent, failed = dict[str, int](), dict[str, str]()
    for name, step in steps.items():
        try:
            sent[name] = step(server)
        except (StepError, ToolchainError, KeyError, ValueError) as error:
            failed[name] = " ".join(str(error).split())
    clear(server)
    there = server.system.name if server.system else "this machine's"
    return PairResult(host.engine, there, sent, failed)


def try_host(host: BuildHost) -> None:
    """Whether images are built, served and gated there; what fails is kept in `host.failed`."""
    for name, step in {"build": host.build, "run": host.serve, "gate": host.gate}.items():
        try:
            step()
        except (StepError, ToolchainError, KeyError, ValueError) as error:
            host.failed[name] = " ".join(str(error).split())


def clear(server: Edge) -> None:
    """Remove everything that shipping brought."""
    with closing(server.client()) as client:
        for container in client.containers.list(all=True, ignore_removed=True):
            container.remove(force=True)
        for volume in client.volumes.list():
            volume.remove(force=True)
        for image in client.images.list():
            for name in image.tags or [str(image.id)]:
                client.images.remove(name, force=True)
