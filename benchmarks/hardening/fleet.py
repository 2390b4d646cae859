"""A fleet with odd servers, one of each kind, and audits changed in seeded ways.

Sound servers are real engines behind a real sshd, one of them with a login banner; odd ones answer through real sockets
(tests/deploy/servers/odd_servers.py). Every command that reaches the fleet is run on all of it.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nacl.signing import SigningKey

from benchmarks.rows import Row, guarded_rows, print_rows, row
from deploy.docker.engine import connect
from deploy.images.build import build_image
from deploy.images.signatures import public_key
from deploy.servers.audit_log import append_entry, check_log, head_of, split_lines
from deploy.servers.server import AuditEntry
from tests import edges
from tests.bundles import null_bundle
from tests.deploy.servers import odd_servers
from tests.edges import Edge
from tests.journeys.conftest import lend_wheelhouse
from tests.names import own_name

CHANGES = 40 if os.environ.get("QUICK") else 200
SOUND = 2
POLICY = "[policy]\nfailures = 99\nparallel = 4\nwaves = [4]\n"
COMMANDS = (("status",), ("servers",), ("audit",), ("audit", "--verify"), ("rollback", "--message=back"))


class CommandResult(NamedTuple):
    """servers: of the JSON document on the last line."""

    servers: Any
    progress: str
    has_traceback: bool


def rows() -> list[Row]:
    return [*fleet_rows(), audit_row()]


def fleet_rows() -> list[Row]:
    with _fleet() as (tag, environment):
        shipped = _run_toolchain(("ship", tag), environment)
        others = [_run_toolchain(words, environment) for words in COMMANDS]
    results: Mapping[str, Mapping[str, Any]] = {server["server"]: server for server in shipped.servers}
    count = SOUND + len(odd_servers.KINDS)
    served = sum(results[f"edge{number}"]["live"] == "1" for number in range(1, SOUND + 1))
    reasons = {kind: str(results[kind]["reason"]) for kind in odd_servers.KINDS}
    silent = [kind for kind, words in odd_servers.TOLD.items() if words not in reasons[kind] or "\n" in reasons[kind]]
    tracebacks = [" ".join(words) for words, ran in zip(COMMANDS, others, strict=True) if ran.has_traceback]
    tracebacks += ["ship"] if shipped.has_traceback else []
    return [
        row(f"sound servers served, of a fleet of {count}", served, ">=", SOUND, "servers"),
        row("odd servers told in a line", len(reasons) - len(silent), ">=", len(reasons), "kinds", ", ".join(silent)),
        row("commands on that fleet that end in a traceback", len(tracebacks), "<=", 0, "", ", ".join(tracebacks)),
    ]


@contextmanager
def _fleet() -> Iterator[tuple[str, Mapping[str, str]]]:
    """(tag of a release, environment of commands) in front of a fleet."""
    model, tag = own_name("odd-bench"), own_name("edge-test:odd-bench")
    with tempfile.TemporaryDirectory(prefix="edge-odd-") as place, edges.edges(Path(place), SOUND) as sound:
        folder = Path(place)
        _greet(sound[-1])
        with odd_servers.odd_servers(folder, model) as odd:
            home = folder / "home"
            lend_wheelhouse(home)
            os.environ["TOOLCHAIN_HOME"] = str(home)
            build_image(null_bundle(folder / "b", name=model), tag)
            servers = [
                f"[[server]]\nname = '{one.name}'\naddress = '{one.address}'\nsocket = '{one.socket}'\n"
                for one in sound
            ]
            (folder / "inventory.toml").write_text(POLICY + odd + "".join(servers))
            try:
                yield tag, {**os.environ, "PATH": odd_servers.with_ssh_of(folder), "PWD": place}
            finally:
                del os.environ["TOOLCHAIN_HOME"]
                with closing(connect()) as client:
                    client.images.remove(tag, force=True)


def _greet(edge: Edge) -> None:
    """Its login shell prints a banner before what a command prints."""
    settings = edge.folder / "sshd"
    settings.write_text(settings.read_text().replace("ForceCommand ", "ForceCommand echo 'Welcome to line 2'; "))
    sshd = edge.processes.pop("sshd")
    sshd.terminate()
    sshd.wait()
    edge.processes["sshd"] = subprocess.Popen(
        edge.inside(edges.SSHD, "-D", "-f", str(settings)), stderr=subprocess.DEVNULL
    )


def _run_toolchain(words: tuple[str, ...], environment: Mapping[str, str]) -> CommandResult:
    command = [sys.executable, "-m", "toolchain", *words]
    ran = subprocess.run(
        command, cwd=environment["PWD"], env=dict(environment), capture_output=True, text=True, check=False
    )
    last = ran.stdout.splitlines()[-1] if ran.stdout else "{}"
    return CommandResult(json.loads(last).get("servers"), ran.stderr, "Traceback" in ran.stdout + ran.stderr)


# audits

OURS, THEIRS = SigningKey(bytes(32)), SigningKey(bytes(range(32)))
Lines = list[bytes]


def _entry(number: int) -> AuditEntry:
    return AuditEntry("2026-11-01T00:00:00+00:00", "ada", f"ship: release {number}", str(number), "live", "faster")


def _cut(lines: Lines, chance: random.Random) -> Lines:
    begin = chance.randrange(len(lines))
    return lines[:begin] + lines[begin + chance.randint(1, 3) :]


def _swap(lines: Lines, chance: random.Random) -> Lines:
    first, second = chance.sample(range(len(lines)), 2)
    lines[first], lines[second] = lines[second], lines[first]
    return lines


def _copy_line(lines: Lines, chance: random.Random) -> Lines:
    lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return lines


def _change_byte(lines: Lines, chance: random.Random) -> Lines:
    number = chance.randrange(len(lines))
    changed = bytearray(lines[number])
    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(7)
    lines[number] = bytes(changed)
    return lines


def _insert_foreign(lines: Lines, chance: random.Random) -> Lines:
    """In place of a line and those behind it: a chain that holds, by another's key."""
    number = chance.randrange(len(lines))
    return split_lines(append_entry(_join(lines[:number]), _entry(number), "line-1", THEIRS)) + lines[number:]


def _insert_unsigned(lines: Lines, chance: random.Random) -> Lines:
    number = chance.randrange(len(lines) + 1)
    return [
        *lines[:number],
        b'{"at":"then","who":"eve","what":"ship: x","release":"9","outcome":"live"}',
        *lines[number:],
    ]


def _cut_within(lines: Lines, chance: random.Random) -> Lines:
    number = chance.randrange(len(lines))
    lines[number] = lines[number][: chance.randrange(len(lines[number]))]
    return lines


def _join(lines: Lines) -> bytes:
    return b"".join(line + b"\n" for line in lines)


TAMPERINGS: tuple[Callable[[Lines, random.Random], Lines], ...] = (
    *(_cut, _swap, _copy_line, _change_byte, _insert_foreign, _insert_unsigned, _cut_within),
)


def audit_row() -> Row:
    """The toolchain that wrote the audit verifies it: what was changed and is still taken."""
    log = b""
    for number in range(12):
        log = append_entry(log, _entry(number), "line-1", OURS)
    keys, seen = {public_key(OURS)}, head_of(log)
    assert check_log(log, keys, seen).passed, "the unchanged audit is not whole"
    taken, tried = [], 0
    for seed in range(CHANGES):
        tamper = TAMPERINGS[seed % len(TAMPERINGS)]
        changed = _join(tamper(split_lines(log), random.Random(seed)))
        if changed != log:
            tried += 1
            taken += [f"{tamper.__name__} {seed}"] if check_log(changed, keys, seen).passed else []
    note = ", ".join(taken) or ("QUICK" if CHANGES < 200 else "")
    return row(f"audits changed in {tried} seeded ways and taken", len(taken), "<=", 0, "", note)


if __name__ == "__main__":
    print_rows(guarded_rows("fleet", rows))
