"""`make bench-gate`: how often the gate is wrong on this machine, beside what other rules say of the same rounds.

    make bench-gate            # a release against itself: 200 gates on the null engine, 40 on the real one; hours
    QUICK=1 make bench-gate    # an eighth of that

Everything goes through the command line and ledgers in build/bench-gate; interrupted, it goes on: what it has measured
of the same images counts until it has come to its end.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import Process
from pathlib import Path
from shutil import rmtree
from typing import Any

import msgspec

from benchmarks import big_ledger, faults, logger
from benchmarks.peers import compared
from benchmarks.rows import Row, print_rows, row
from deploy.gate.selftest import Rate
from deploy.gate.statistics import median, wilson
from deploy.ledger.ledger import Ledger
from toolchain.cli.console import log_to_stderr
from toolchain.records.gate import Gate
from toolchain.records.storage import encode_record, write_atomically
from toolchain.tables import table

ROOT = Path(__file__).parent.parent
WORK = ROOT / "build" / "bench-gate"
LEDGER = WORK / "ledger.sqlite"
NOISY = WORK / "noisy.sqlite"  # what is measured beside a neighbour must not teach the others its noise
TOOLCHAIN = (sys.executable, "-m", "toolchain")
NULL_GATES, REAL_GATES, SLOWER_GATES, UNSEEN_GATES, NOISY_GATES = 200, 40, 20, 2, 20
AT_ONCE = 4  # gates on the null engine, which sleeps: each is the others' noise
NOISY_MINUTES = 0.5  # whatever it says by then must be right
QUICK_SHARE = 8
MINUTES = 5
BUSY_S = 0.5
NULL = "\n[target.null]\ndelay_ms = 2.0\n"


def run(*words: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON document that a verb ends with; its progress goes to stderr. CalledProcessError when it fails."""
    settings = {**os.environ, **(environment or {})}
    done = subprocess.run([*TOOLCHAIN, *words], cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.strip().rpartition("\n")[2])
    assert isinstance(found, dict)
    return found


def image(target: str) -> tuple[str, str]:
    """(tag, digest of the bundle) of the example net for a target, made where it is not here."""
    WORK.mkdir(parents=True, exist_ok=True)
    place = WORK / f"{target}.toml"
    text = faults.example("gate-resnet20")
    place.write_text(text + NULL if target == "null" else text)
    bundle = run("build", str(place), f"--target={target}")
    return run("image", bundle["bundle"])["tag"], bundle["digest"]


def rate(tag: str, gates: int, slower: float, ledger: Path = LEDGER, minutes: float = MINUTES, home: str = "") -> Rate:
    """`gate selftest` of one slowdown; home: where what an interrupted one has judged is kept, if not as always."""
    words = (f"--gates={gates}", f"--slower={slower:g}", f"--ledger={ledger}", f"--minutes={minutes:g}")
    found = run("gate", "selftest", tag, *words, environment={"TOOLCHAIN_HOME": home} if home else None)
    return msgspec.convert(found["rates"][0], Rate)


def at_once(tag: str, gates: int) -> Rate:
    """A release against itself in AT_ONCE self-tests side by side, with a ledger each."""

    def one(number: int) -> Rate:
        share = gates // AT_ONCE + (number < gates % AT_ONCE)
        return rate(tag, share, 0.0, WORK / f"null-{number}.sqlite", home=str(WORK / f"home-{number}"))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return pooled(list(pool.map(one, range(AT_ONCE))))


def pooled(rates: Sequence[Rate]) -> Rate:
    """All gates of the same slowdown; rounds and seconds: the median of the medians."""
    gates = sum(one.gates for one in rates)
    passed, unsure, regressed = (
        sum(getattr(one, verdict) * one.gates for one in rates) / gates for verdict in ("passed", "unsure", "regressed")
    )
    low, high = wilson(round(regressed * gates), gates)
    rounds, seconds = (median([getattr(one, name) for one in rates]) for name in ("rounds", "seconds"))
    return Rate(rates[0].slower, gates, passed, unsure, regressed, low, high, rounds, seconds)


def kept(what: str, tag: str, gates: int, measure: Callable[[], Rate]) -> Rate:
    """What was measured already by the run that this one goes on with, else measured now."""
    place = WORK / "done" / f"{what}-{tag.replace(':', '-')}-{gates}.json"
    if place.is_file():
        logger.info(f"bench: {what} was measured before the interruption ({place})")
        return msgspec.json.decode(place.read_bytes(), type=Rate)
    logger.info(f"bench: {what}, {gates} gates")
    found = measure()
    write_atomically(place, encode_record(found))
    return found


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


def told(found: Rate) -> str:
    return (
        f"{found.gates} gates: {found.regressed:.1%} regressed ({found.low:.1%} to {found.high:.1%}), "
        f"{found.unsure:.1%} unsure; {found.seconds:.0f} s, {found.rounds:.0f} rounds"
    )


def alarms(what: str, found: Rate) -> Row:
    return row(f"false alarms, {what}", 100 * found.regressed, "<=", 1, "%", told(found))


def verdicts(share: int) -> Iterator[Row]:
    """False alarms and power, alone and beside a noisy neighbour."""
    null, _ = image("null")
    gates = NULL_GATES // share
    found = kept("null", null, gates, lambda: at_once(null, gates))
    yield alarms(f"a release against itself, null engine, {AT_ONCE} at once", found)
    real, digest = image("openvino")
    yield alarms("a release against itself, OpenVINO", alone(real, REAL_GATES // share, 0.0))
    found = alone(real, SLOWER_GATES // share, 0.05)
    yield row("power, 5 % slower, OpenVINO", 100 * found.regressed, ">=", 95, "%", told(found))
    yield row("... a gate takes", found.seconds, "<=", 60 * MINUTES, "s", "median")
    found = alone(real, max(1, UNSEEN_GATES // share), 0.03)
    yield row("power, 3 % slower, OpenVINO", 100 * found.regressed, ">=", 0, "%", f"told: {told(found)}")
    yield beside_a_neighbour(real, NOISY_GATES // share)
    with Ledger(LEDGER) as ledger:
        print(peers_page(ledger.gates(digest)), end="\n\n", flush=True)


def alone(tag: str, gates: int, slower: float) -> Rate:
    return kept(f"openvino-{slower:g}", tag, gates, lambda: rate(tag, gates, slower))


def beside_a_neighbour(tag: str, gates: int) -> Row:
    """A release against itself called regressed, and one 10 % slower called passed, are wrong."""

    def measured(slower: float) -> Rate:
        def measure() -> Rate:
            with neighbour():
                return rate(tag, gates, slower, NOISY, NOISY_MINUTES)

        return kept(f"noisy-{slower:g}", tag, gates, measure)

    same, slowed = measured(0.0), measured(0.1)
    wrong = same.regressed * same.gates + slowed.passed * slowed.gates
    note = f"as it is: {told(same)}; 10 % slower: {told(slowed)}"
    return row("wrong verdicts beside a neighbour on all cores half of the time", wrong, "<=", 0, "gates", note)


def peers_page(gates: tuple[Gate, ...]) -> str:
    """What each rule says of the same rounds, ours with its second run."""
    rows = [(one.name, f"{one.slower:.0%}", one.gates, one.regressed) for one in compared(gates)]
    return table(rows, {"rule": "", "slower by": "", "gates": "", "says regressed": ".1%"})


def main() -> None:
    log_to_stderr()
    share = QUICK_SHARE if os.environ.get("QUICK") else 1
    print_rows([*faults.rows(), *verdicts(share), *big_ledger.rows(big_ledger.REPORTS // share)])
    rmtree(WORK / "done")


if __name__ == "__main__":
    main()
