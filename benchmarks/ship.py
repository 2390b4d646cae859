"""`make bench-ship`: the requirements for shipping, on simulated edge servers (tests/edges.py). Needs root.

    make bench-ship            # about forty minutes
    QUICK=1 make bench-ship    # a few cases of each row

Each server is a Docker Engine with its own data root behind a real sshd in a network namespace; every command is the
one that a user types.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import logger
from benchmarks.rows import Row, guarded_rows, print_rows, row
from benchmarks.shipping.faults import fault_rows
from benchmarks.shipping.shipped import Rack, rack
from benchmarks.shipping.trust import tampered_rows
from tests.edges import why_not
from tests.shipped import clean, left_behind, serves, tag, under_load
from toolchain.cli.console import log_to_stderr

ROOT = Path(__file__).parent.parent
MODEL_BYTES, CAPACITY_S, LOAD_SHARE, SWITCHES = 20_000_000, 5.0, 0.8, 20
QUICK_SHARE = 5
DISK_MB = 4000  # of each server, so that one can be filled


def bytes_row(rig: Rack) -> Iterator[Row]:
    """The bytes sent for a release that differs only in the model."""
    rig.build("1", 2.0, MODEL_BYTES)
    model = rig.build("2", 2.0, MODEL_BYTES)
    rig.ship("1", "edge1")
    results = rig.ship("2", "edge1")
    bound = model * 1.1 + 1e6
    note = f"the bundle: {model / 1e6:.1f} MB, random bytes"
    yield row("sent when only the model changed", results["sent_bytes"], "<=", bound, "bytes", note)


def switch_row(rig: Rack, switches: int) -> Iterator[Row]:
    """Requests lost while switching between two releases under load."""
    edge = rig.edges[0]
    with under_load(edge, clients=4, per_second=1e6) as most:
        _pause(CAPACITY_S)
    capacity = sum(most.values()) / CAPACITY_S
    with under_load(edge, clients=8, per_second=LOAD_SHARE * capacity) as answers:
        for number in range(switches):
            results = rig.run_for_server("rollback", "edge1", "--message=bench")
            so_far = sum(answers.values())
            logger.info(f"switch {number + 1} of {switches}: to {results['live']}, {so_far} answers so far")
    lost = sum(count for answer, count in answers.items() if answer != "200")
    note = f"{sum(answers.values())} requests at {LOAD_SHARE:.0%} of {capacity:.0f}/s, half over kept connections"
    yield row(f"requests that failed in {switches} switches under load", lost, "<=", 0, "", note)


def _pause(seconds: float) -> None:
    subprocess.run(["sleep", f"{seconds}"], check=True)


def waves_row(rig: Rack) -> Iterator[Row]:
    """A slower release must not go beyond the first wave of one server."""
    rig.build("9", 4.0)
    rig.ship("1", despite="all begin with it")
    done = rig.run("ship", tag("9"))
    summary = json.loads(done.stdout.splitlines()[-1])
    notes = [rig.notes(edge.name)[-1]["outcome"] for edge in rig.edges]
    right = (
        done.returncode == 1
        and [server["outcome"] for server in summary["servers"]] == ["refused"]
        and summary["left"] == [edge.name for edge in rig.edges[1:]]
        and {serves(edge) for edge in rig.edges} == {"1"}
        and notes == ["refused", *["live"] * (len(rig.edges) - 1)]
        and left_behind(rig.edges[-1]) == clean("1")
    )
    note = summary["servers"][0]["reason"][:120]
    yield row(
        f"a slower release on {len(rig.edges)} servers went further than it may", int(not right), "<=", 0, "", note
    )


def simulated_row() -> Row:
    """Rollouts on a hundred simulated servers, with a thousand seeds."""
    command = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "tests/deploy/ship/test_waves.py"]
    command += ["-k", "thousand_runs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    passed = done.returncode == 0 and "1 passed" in done.stdout
    return row(
        "invariants broken in 1,000 seeded rollouts under faults", int(not passed), "<=", 0, "", " ".join(command[3:])
    )


@contextmanager
def checkout(folder: Path) -> Iterator[Path]:
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    yield folder


def reproducible_row(rig: Rack) -> Row:
    """Builds in two clean checkouts, on two engines without a build cache, give the same image."""
    digests = []
    for number, edge in enumerate(rig.edges[:2], 1):
        with tempfile.TemporaryDirectory() as at, checkout(Path(at) / "checkout") as clone:
            environment = {**os.environ, "DOCKER_HOST": f"unix://{edge.socket}", "PYTHONPATH": str(clone)}
            command = [
                sys.executable,
                "-m",
                "toolchain",
                "image",
                str(rig.folder / "1.bundle"),
                f"--tag=again:{number}",
            ]
            logger.info(f"building in a clean checkout, on {edge.name}")
            done = subprocess.run(
                command, cwd=clone, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )  # fmt: skip
            digests.append(json.loads(done.stdout.splitlines()[-1])["id"])
    same = len(set(digests)) == 1
    return row(
        "image digests of two builds in two clean checkouts",
        len(set(digests)),
        "<=",
        1,
        "",
        digests[0] if same else str(digests),
    )


def main() -> None:
    log_to_stderr()
    reason = why_not()
    if reason:
        raise SystemExit(f"bench-ship: {reason}")
    quick = bool(os.environ.get("QUICK"))
    rows: list[Row] = [simulated_row()]
    with rack(2, DISK_MB) as rig:
        rows += guarded_rows("bytes", lambda: bytes_row(rig))
        rows += guarded_rows("switches", lambda: switch_row(rig, SWITCHES // QUICK_SHARE if quick else SWITCHES))
        rows += guarded_rows("tampering", lambda: tampered_rows(rig))
        rows += guarded_rows("faults", lambda: fault_rows(rig, quick))
    with rack(5) as rig:
        rig.build("1", 2.0)
        rows += guarded_rows("waves", lambda: waves_row(rig))
        rows += guarded_rows("the same image twice", lambda: [reproducible_row(rig)])
    print_rows(rows)


if __name__ == "__main__":
    main()
