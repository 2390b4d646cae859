"""`make bench-gate`: how often the gate is wrong on this machine, beside what other rules say of the same rounds.

    make bench-gate            # a release against itself: 200 gates on the null engine, 40 on the real one
    QUICK=1 make bench-gate    # an eighth of that

Everything goes through the command line and a ledger in build/bench-gate; interrupted, it goes on.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Process
from pathlib import Path
from typing import Any

from benchmarks import big_ledger, faults
from benchmarks.peers import compared
from benchmarks.rows import Row, print_rows, row
from deploy.ledger import Ledger
from toolchain.records.gate import Gate
from toolchain.tables import table

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "bench-gate"
LEDGER = WORK / "ledger.sqlite"
NOISY = WORK / "noisy.sqlite"  # what is measured beside a neighbour must not teach the others its noise
RECIPE = ROOT / "recipes" / "cifar10-resnet20.toml"
TOOLCHAIN = (sys.executable, "-m", "toolchain")
NULL_GATES, REAL_GATES, NOISY_GATES = 200, 40, 20
QUICK_SHARE = 8
MINUTES = 5
BUSY_S = 0.5
NULL = "\n[target.null]\ndelay_ms = 2.0\n"


def run(*words: str) -> dict[str, Any]:
    """The JSON document that a verb ends with; its progress goes to stderr. CalledProcessError when it fails."""
    done = subprocess.run([*TOOLCHAIN, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.strip().rpartition("\n")[2])
    assert isinstance(found, dict)
    return found


def image(target: str) -> tuple[str, str]:
    """(tag, digest of the bundle) of the example net for a target, made where it is not here."""
    WORK.mkdir(parents=True, exist_ok=True)
    place = WORK / f"{target}.toml"
    text = RECIPE.read_text().replace('"../', f'"{ROOT}/').replace('name = "cifar10-', 'name = "gate-', 1)
    place.write_text(text + NULL if target == "null" else text)
    bundle = run("build", str(place), f"--target={target}")
    return run("image", bundle["bundle"])["tag"], bundle["digest"]


def rates(tag: str, gates: int, *slower: float, ledger: Path = LEDGER) -> dict[float, dict[str, float]]:
    """`gate selftest` by slowdown."""
    shares = ",".join(f"{one:g}" for one in slower)
    found = run("gate", "selftest", tag, f"--gates={gates}", f"--slower={shares}", f"--ledger={ledger}")
    return {one["slower"]: one for one in found["rates"]}


def _busy() -> None:
    """One core, half of the time."""
    while True:
        end = time.monotonic() + BUSY_S
        while time.monotonic() < end:
            pass
        time.sleep(BUSY_S)


@contextmanager
def neighbour() -> Iterator[None]:
    """Another user of all cores, half of the time."""
    processes = [Process(target=_busy, daemon=True) for _ in range(os.cpu_count() or 1)]
    for one in processes:
        one.start()
    try:
        yield
    finally:
        for one in processes:
            one.terminate()
            one.join()


def told(found: dict[str, float]) -> str:
    return (
        f"{found['gates']:.0f} gates: {found['regressed']:.1%} regressed ({found['low']:.1%} to {found['high']:.1%}), "
        f"{found['unsure']:.1%} unsure; {found['seconds']:.0f} s, {found['rounds']:.0f} rounds"
    )


def alarms(what: str, found: dict[str, float]) -> Row:
    return row(f"false alarms, {what}", 100 * found["regressed"], "<=", 1, "%", told(found))


def verdicts(share: int) -> Iterator[Row]:
    """False alarms and power, alone and beside a noisy neighbour."""
    null, _ = image("null")
    yield alarms("a release against itself, null engine", rates(null, NULL_GATES // share, 0.0)[0.0])
    real, digest = image("openvino")
    found = rates(real, REAL_GATES // share, 0.0, 0.03, 0.05)
    yield alarms("a release against itself, OpenVINO", found[0.0])
    yield row("power, 5 % slower, OpenVINO", 100 * found[0.05]["regressed"], ">=", 95, "%", told(found[0.05]))
    yield row("... a gate takes", found[0.05]["seconds"], "<=", 60 * MINUTES, "s", "median")
    yield row("power, 3 % slower, OpenVINO", 100 * found[0.03]["regressed"], ">=", 0, "%", f"told: {told(found[0.03])}")
    with neighbour():
        noisy = rates(real, NOISY_GATES // share, 0.0, 0.1, ledger=NOISY)
    wrong = noisy[0.0]["regressed"] * noisy[0.0]["gates"] + noisy[0.1]["passed"] * noisy[0.1]["gates"]
    note = f"as it is: {told(noisy[0.0])}; 10 % slower: {told(noisy[0.1])}"
    yield row("wrong verdicts beside a neighbour on all cores half of the time", wrong, "<=", 0, "gates", note)
    with Ledger(LEDGER) as ledger:
        print(peers_page(ledger.gates(digest)), end="\n\n", flush=True)


def peers_page(gates: tuple[Gate, ...]) -> str:
    """What each rule says of the same rounds, ours with its second run."""
    rows = [(one.name, f"{one.slower:.0%}", one.gates, one.regressed) for one in compared(gates)]
    return table(rows, {"rule": "", "slower by": "", "gates": "", "says regressed": ".1%"})


def main() -> None:
    share = QUICK_SHARE if os.environ.get("QUICK") else 1
    print_rows([*faults.rows(), *verdicts(share), *big_ledger.rows(big_ledger.REPORTS // share)])


if __name__ == "__main__":
    main()
