"""Reports, certificates and gates for ledgers, and servers of our own for them."""

import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sql

from deploy.ledger.schema import metadata
from toolchain.records.certificate import Certificate, Check
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import BASELINE, CANDIDATE, Finding, Gate, GatedRelease, Round
from toolchain.records.report import InterleavedLatencies, Report, Scenario

DEVICE = Fingerprint("x86_64", "Xeon", ("avx2",), 8, 8, 2.0, "performance", "6.1", False, 1 << 34, None)


def report(bundle: str = "b" * 64, **changes: Any) -> Report:
    latencies = tuple(1 + number / 7 for number in range(100))
    whole = Report(
        bundle=bundle,
        name="null",
        release="1",
        target="null",
        precision="fp32",
        backend="null",
        engine="null 1",
        threads=2,
        fingerprint=DEVICE,
        scenarios=(
            Scenario("SingleStream", latencies, 90.0, 1.0, True),
            Scenario("Offline", (3.3,), 123.0, 1.0, True, "short"),
        ),
        peak_memory_bytes=5_000_000_000,
        throttled_periods=0,
        measured_at="2026-01-02T03:04:05+00:00",
        cold_start_s=0.7,
        interleaved=InterleavedLatencies(2, {"torch": ((1.5, 2.5), (1.25,)), "openvino": ((0.1,), ())}),
    )
    return msgspec.structs.replace(whole, **changes)


def certificate(bundle: str, issued_at: str = "2026-01-02T03:04:06+00:00", accuracy: float = 0.75) -> Certificate:
    checks = (Check("accuracy", True, "75 %", "74 %"),)
    return Certificate(
        bundle, "null", "1", "fp32", "null 1", DEVICE, checks, 100, accuracy, 0.65, 0.83, issued_at=issued_at
    )


def gate_of(candidate: str = "a" * 64, baseline: str = "b" * 64, change: float = 0.01, **changes: Any) -> Gate:
    sides = {
        role: GatedRelease(bundle, "null", "1", f"edge-null:{role}", "fp32", "null 1", 100, 200, 9, 12)
        for role, bundle in ((CANDIDATE, candidate), (BASELINE, baseline))
    }
    rounds = tuple(
        Round(dict.fromkeys(sides, ((1.0, 2.5), (1.0 / 3,))), dict.fromkeys(sides, (3.0, 4.0))) for _ in range(2)
    )
    finding = Finding("p50", BASELINE, "passed", change, change - 0.01, change + 0.01, 0.03, 0.5)
    known = Finding("memory", BASELINE, "passed", 0.5)
    judged = "2026-01-02T03:04:05+00:00"
    whole = Gate(sides, DEVICE, 2, rounds, rounds[:1], (finding, known), {"p50": 0.01}, "passed", "why", judged, 9.5)
    return msgspec.structs.replace(whole, **changes)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of our own, on loopback, in a temporary folder; the URL of its database."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None, key=lambda path: int(path.parent.name))
    finding = shutil.which("initdb") or (binaries and str(binaries / "initdb"))
    if not finding:
        pytest.skip("no PostgreSQL server here: apt-get install postgresql")
    as_root = os.geteuid() == 0
    if as_root and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    # not below tmp_path_factory: the user postgres may not enter pytest's folders
    folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/ledger-pg-XXXXXX"], text=True).strip())
    user: Any = {"user": "postgres", "group": "postgres", "extra_groups": [], "cwd": folder} if as_root else {}
    if as_root:
        shutil.chown(folder, "postgres", "postgres")
    port, data, control = free_port(), folder / "data", str(Path(finding).parent / "pg_ctl")
    try:
        options = ["--username=judge", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
        subprocess.run([finding, "-D", str(data), *options], check=True, capture_output=True, **user)
        server = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
        log = str(folder / "log")
        start = [control, "-D", str(data), "-w", "-l", log, "-o", server, "start"]
        subprocess.run(start, check=True, capture_output=True, **user)
        yield f"postgresql://judge:secret@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([control, "-D", str(data), "-m", "immediate", "stop"], check=False, capture_output=True, **user)
        shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty ledger's place, one of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "below" / "ledger.sqlite")
    url: str = request.getfixturevalue("postgresql")
    engine = sql.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    metadata.drop_all(engine)
    engine.dispose()
    return url
