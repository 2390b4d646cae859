"""A fleet's ledger: thousands of reports from concurrent writers, some of them killed; is every report there and quick
to find?

python -m benchmarks.big_ledger; REPORTS=1000 for fewer. Eight processes write; every second, one of them, drawn with a
fixed seed, is killed by SIGKILL and resumes after the last report that it knows to be recorded.
"""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.rows import Row, guarded_rows, print_rows, row
from deploy.ledger.ledger import Ledger
from deploy.runtime.device.probe import fingerprint
from toolchain.records.report import Report, Scenario

REPORTS, LATENCIES, WRITERS = 10_000, 10_000, 8
RELEASES = 200
WRITER = "from benchmarks.big_ledger import write; import sys; write(sys.argv[1], *map(int, sys.argv[2:]))"
DEVICE = fingerprint()


def report(number: int) -> Report:
    """Latencies as a container measures them: whole nanoseconds with a tail, drawn by the report's number."""
    draw = np.random.default_rng(number)
    ns = draw.lognormal(np.log(374_000), 0.05, LATENCIES) + draw.exponential(20_000, LATENCIES)
    latencies = tuple((ns.astype(np.int64) / 1e6).tolist())
    release = number % RELEASES
    return Report(
        bundle=f"{release:064x}",
        name="net",
        release=str(release),
        target="openvino",
        precision="int8",
        backend="openvino",
        engine="OpenVINO",
        threads=2,
        fingerprint=DEVICE,
        scenarios=(Scenario("SingleStream", latencies, 2500.0, 4.0, True),),
        peak_memory_bytes=100 << 20,
        throttled_periods=0,
        measured_at=f"2026-01-01T00:00:00.{number:06d}+00:00",
    )


def write(folder: str, writer: int, first: int, last: int) -> None:
    """Write reports first to last; each goes into a file once the ledger has it."""
    notes = Path(folder) / f"{writer}.txt"
    with Ledger(Path(folder) / "ledger.sqlite") as ledger, notes.open("a") as kept:
        for number in range(first, last):
            digest = ledger.record_report(report(number))
            kept.write(f"{digest}\n")
            kept.flush()


class Writer:
    """A process and its share of the reports."""

    def __init__(self, folder: Path, writer: int, first: int, last: int) -> None:
        self._folder, self._writer, self._first, self._last = folder, writer, first, last
        self.process = self._start()

    @property
    def recorded(self) -> list[str]:
        """The digests of complete lines; the last may be half written when the process is killed."""
        path = self._folder / f"{self._writer}.txt"
        text = path.read_text() if path.exists() else ""
        return text[: text.rfind("\n") + 1].split()

    def _start(self) -> "subprocess.Popen[bytes]":
        path = self._folder / f"{self._writer}.txt"
        noted = self.recorded
        path.write_text("".join(f"{digest}\n" for digest in noted))
        words = map(str, (self._folder, self._writer, self._first + len(noted), self._last))
        return subprocess.Popen([sys.executable, "-c", WRITER, *words])

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = self._start()


def fill(folder: Path, reports: int) -> tuple[list[str], int]:
    """The digests that the writers know to be recorded, and how often a writer was killed."""
    share, chosen, kills = reports // WRITERS, random.Random(0), 0
    writers = [Writer(folder, number, number * share, (number + 1) * share) for number in range(WRITERS)]
    while alive := [writer for writer in writers if writer.process.poll() is None]:
        time.sleep(1)
        victim = chosen.choice(alive)
        if victim.process.poll() is None:
            victim.kill()
            kills += 1
        print(
            f"{sum(len(writer.recorded) for writer in writers)} of {share * WRITERS} reports",
            file=sys.stderr,
            flush=True,
        )
    return [digest for writer in writers for digest in writer.recorded], kills


def time_call(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def rows(reports: int = REPORTS) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="edge-ledger-") as name:
        folder = Path(name)
        began = time.monotonic()
        noted, kills = fill(folder, reports)
        took = time.monotonic() - began
        place = folder / "ledger.sqlite"
        with sqlite3.connect(place) as connection:
            kept = {digest for (digest,) in connection.execute("SELECT report FROM reports")}
            (sound,) = connection.execute("PRAGMA integrity_check").fetchone()
        connection.close()
        lost = len(set(noted) - kept) + (sound != "ok")
        with Ledger(place) as ledger:
            history = time_call(lambda: ledger.history("net", 50))
            whole = ledger.reports(f"{1:064x}")
            others = time_call(lambda: ledger.other_releases(f"{1:064x}", "net", "openvino"))
            noise = time_call(lambda: ledger.gate_noise("net", "int8", DEVICE, 2))
        assert whole[0] == msgspec.structs.replace(report(1), format=whole[0].format)
        size = place.stat().st_size
    what = f"ledger of {len(kept):,} reports of {LATENCIES:,} latencies"
    note = f"{WRITERS} writers, {kills} of them killed, {took:.0f} s; integrity: {sound}"
    return [
        row(f"{what}: lost", lost, "<=", 0, "reports", note),
        row(
            f"{what}: file",
            size / 1e9,
            "<",
            1,
            "GB",
            f"{size / len(kept) / LATENCIES:.2f} bytes per latency, everything included",
        ),
        row(f"{what}: history", history, "<", 1, "s"),
        row(f"{what}: a gate's queries", others + noise, "<", 1, "s"),
    ]


def main() -> None:
    print_rows(guarded_rows("ledger", lambda: rows(int(os.environ.get("REPORTS", REPORTS)))))


if __name__ == "__main__":
    main()
