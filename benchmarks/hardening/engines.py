"""`make bench-hardening ONLY=engines`: one release between engines of other makers, releases and image stores.

Every build host builds, serves and gates; then every pair of a build host and a server ships a first release, ships
the next (only its own layer is sent; from the first build host it is gated there), carries a third on an offline
bundle, and rolls back. Each engine runs in a Debian of its own (tests/engines/). Run by itself it also writes the table
of docs/guides/engines.md:

    python -m benchmarks.hardening.engines            # needs root; half an hour
    QUICK=1 python -m benchmarks.hardening.engines    # Docker's two image stores; writes no table
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import logger
from benchmarks.rows import Row, print_rows, row
from tests.edges import Edge, edges, why_not
from tests.engines.pairs import STEPS, BuildHost, PairResult, try_host, try_pair
from tests.engines.systems import CLASSIC_20, CLASSIC_26, CONTAINERD_28, PODMAN_5, ROOTLESS_26, System
from tests.engines.systems import why_not as why_no_system
from toolchain.cli.console import log_to_stderr
from toolchain.paths import home

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "engines.md"
BEGIN, END = "<!-- written by benchmarks/hardening/engines.py -->\n", "<!-- end -->\n"
SYSTEMS = (CONTAINERD_28, CLASSIC_26, CLASSIC_20, PODMAN_5, ROOTLESS_26)
QUICK_SYSTEMS = (CONTAINERD_28, CLASSIC_20)
# what is known not to work, and said in a line: (step, words of the line) by (build host, server); "" for any
EXCUSED: dict[tuple[str, str], tuple[str, str]] = {}


class EngineTable:
    """hosts: what was tried on each build host; pairs: what was tried between each host and each server."""

    def __init__(self, hosts: Sequence[BuildHost], pairs: Sequence[PairResult]) -> None:
        self.hosts, self.pairs = hosts, pairs

    def failures(self) -> list[str]:
        """One line for each step that failed and is not excused."""
        of_hosts = [(host.engine, "", step, said) for host in self.hosts for step, said in host.failed.items()]
        of_pairs = [(pair.host, pair.server, step, said) for pair in self.pairs for step, said in pair.failed.items()]
        return [
            f"{host}{' to ' + server if server else ''}: {step}: {said}"
            for host, server, step, said in (*of_hosts, *of_pairs)
            if not _is_excused(host, server, step, said)
        ]

    def markdown(self) -> str:
        """Two tables, and the lines of what does not work."""
        lines = ["| engine | builds | serves | gates |", "|---|---|---|---|"]
        for host in self.hosts:
            cells = ["no" if step in host.failed else "yes" for step in ("build", "run", "gate")]
            lines.append(f"| {host.engine} | {' | '.join(cells)} |")
        servers = list(dict.fromkeys(pair.server for pair in self.pairs))
        lines += [
            "",
            f"| built on, down; shipped to, across | {' | '.join(servers)} |",
            "|---" * (len(servers) + 1) + "|",
        ]
        for host in self.hosts:
            of_host = {pair.server: _cell(pair) for pair in self.pairs if pair.host == host.engine}
            cells = [of_host.get(server, "not tried") for server in servers]
            lines.append(f"| {host.engine} | {' | '.join(cells)} |")
        said = [f"- {host.engine}: {step}: {words}" for host in self.hosts for step, words in host.failed.items()]
        said += [
            f"- {one.host} to {one.server}: {step}: {words}" for one in self.pairs for step, words in one.failed.items()
        ]
        return "\n".join([*lines, "", *said]).rstrip() + "\n"


def _is_excused(host: str, server: str, step: str, said: str) -> bool:
    return any(
        EXCUSED.get(pair, ("", ""))[0] == step and EXCUSED[pair][1] in said
        for pair in ((host, server), (host, ""), ("", server))
        if pair in EXCUSED
    )


def _cell(pair: PairResult) -> str:
    if pair.failed:
        return f"not: {', '.join(pair.failed)}"
    first, following = pair.sent_bytes["first"], pair.sent_bytes["next"]
    return f"yes: {first / 1e6:.1f} MB, then {following / 1e3:.0f} kB"


def measure(systems: Sequence[System]) -> EngineTable:
    """Every system as a build host and, on another machine, as a server."""
    wheels = home() / "wheelhouse"
    wheels.mkdir(parents=True, exist_ok=True)
    path = os.environ["PATH"]
    with (
        tempfile.TemporaryDirectory(prefix="bench-engines-") as at,
        edges(Path(at), 2 * len(systems), systems=[*systems, *systems]) as machines,
    ):
        servers = machines[len(systems) :]
        os.environ["PATH"] = f"{at}/bin:{path}"
        try:
            hosts = [_build_host(edge, Path(at), wheels, servers) for edge in machines[: len(systems)]]
            # how a server gates does not depend on where the image was built
            return EngineTable(hosts, [pair for host in hosts for pair in _try_all(host, servers, host is hosts[0])])
        finally:
            os.environ["PATH"] = path


def _build_host(edge: Edge, folder: Path, wheels: Path, servers: Sequence[Edge]) -> BuildHost:
    host = BuildHost(edge, folder / f"host-{edge.name}")
    (host.folder / "home").mkdir(parents=True)
    (host.folder / "home" / "wheelhouse").symlink_to(wheels)
    host.list_servers(servers)
    return host


def _try_all(host: BuildHost, servers: Sequence[Edge], gated: bool) -> Iterator[PairResult]:
    try_host(host)
    logger.info(f"engines: {host.engine}: {host.failed or 'builds, serves and gates'}")
    for server in servers:
        pair = try_pair(host, server, gated)
        logger.info(f"engines: {pair.host} to {pair.server}: {pair.failed or pair.sent_bytes}")
        yield pair


def rows() -> list[Row]:
    """The row of `make bench-hardening`."""
    for reason in filter(None, (why_not(), why_no_system())):
        raise RuntimeError(reason)
    return [table_row(measure(QUICK_SYSTEMS if os.environ.get("QUICK") else SYSTEMS))]


def table_row(table: EngineTable) -> Row:
    failures, tried = table.failures(), 3 * len(table.hosts) + len(STEPS) * len(table.pairs)
    names = ", ".join(host.engine for host in table.hosts)
    note = "; ".join(failures) or f"{tried} steps between {names}"
    return row(
        "engines: steps of build, run, gate, ship, offline bundle, rollback that fail", len(failures), "<=", 0, "", note
    )


def main() -> None:
    for reason in filter(None, (why_not(), why_no_system())):
        raise SystemExit(reason)
    log_to_stderr()
    table = measure(QUICK_SYSTEMS if os.environ.get("QUICK") else SYSTEMS)
    if not os.environ.get("QUICK"):
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}{table.markdown()}{END}{rest.partition(END)[2]}")
    print_rows([table_row(table)])


if __name__ == "__main__":
    main()
