"""`make bench-gate`: how often the gate is wrong on this machine, and other rules' verdicts on the same rounds.

    make bench-gate            # a release against itself: 200 gates on the null engine, 40 on the real one; hours
    QUICK=1 make bench-gate    # an eighth of that

Everything runs through the command line, with ledgers in build/bench-gate. An interrupted run resumes: results for the
same images are reused until a run has finished.
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
from benchmarks.peers import compare_rules
from benchmarks.rows import Row, guarded_rows, print_rows, row
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
NOISY = WORK / "noisy.sqlite"  # separate, so that noise from a neighbour does not raise the others' noise floor
TOOLCHAIN = (sys.executable, "-m", "toolchain")
NULL_GATES, REAL_GATES, SLOWER_GATES, UNSEEN_GATES, NOISY_GATES = 200, 40, 20, 2, 20
CONCURRENT_GATES = 4  # gates on the null engine, which only sleeps; each adds noise to the others
NOISY_MINUTES = 0.5  # any verdict by then must be correct
QUICK_SHARE = 8
MINUTES = 5
BUSY_S = 0.5
NULL = "\n[target.null]\ndelay_ms = 2.0\n"


def run_toolchain(*words: str, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON document that a command prints last; progress goes to stderr. CalledProcessError when it fails."""
    settings = {**os.environ, **(environment or {})}
    done = subprocess.run([*TOOLCHAIN, *words], cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True, check=True)
    document = json.loads(done.stdout.strip().rpartition("\n")[2])
    assert isinstance(document, dict)
    return document


def build_image(target: str) -> tuple[str, str]:
    """(tag, digest of the bundle) of the example model for a target, built if it does not exist."""
    WORK.mkdir(parents=True, exist_ok=True)
    place = WORK / f"{target}.toml"
    text = faults.example_recipe("gate-resnet20")
    place.write_text(text + NULL if target == "null" else text)
    bundle = run_toolchain("build", str(place), f"--target={target}")
    return run_toolchain("image", bundle["bundle"])["tag"], bundle["digest"]


def measure_rate(
    tag: str, gates: int, slower: float, ledger: Path = LEDGER, minutes: float = MINUTES, home: str = ""
) -> Rate:
    """`gate selftest` of one slowdown; home: the TOOLCHAIN_HOME with an interrupted run's results, "" for the usual."""
    words = (f"--gates={gates}", f"--slower={slower:g}", f"--ledger={ledger}", f"--minutes={minutes:g}")
    rates = run_toolchain("gate", "selftest", tag, *words, environment={"TOOLCHAIN_HOME": home} if home else None)
    return msgspec.convert(rates["rates"][0], Rate)


def measure_concurrently(tag: str, gates: int) -> Rate:
    """A release against itself in AT_ONCE self-tests side by side, with a ledger each."""

    def one(number: int) -> Rate:
        share = gates // CONCURRENT_GATES + (number < gates % CONCURRENT_GATES)
        return measure_rate(tag, share, 0.0, WORK / f"null-{number}.sqlite", home=str(WORK / f"home-{number}"))

    with ThreadPoolExecutor(CONCURRENT_GATES) as pool:
        return pool_rates(list(pool.map(one, range(CONCURRENT_GATES))))


def pool_rates(rates: Sequence[Rate]) -> Rate:
    """All gates of the same slowdown; rounds and seconds: the median of the medians."""
    gates = sum(rate.gates for rate in rates)
    passed, inconclusive, regressed = (
        sum(getattr(rate, verdict) * rate.gates for rate in rates) / gates
        for verdict in ("passed", "inconclusive", "regressed")
    )
    low, high = wilson(round(regressed * gates), gates)
    rounds, seconds = (median([getattr(rate, name) for rate in rates]) for name in ("rounds", "seconds"))
    return Rate(rates[0].slower, gates, passed, inconclusive, regressed, low, high, rounds, seconds)


def cached_rate(what: str, tag: str, gates: int, measure: Callable[[], Rate]) -> Rate:
    """The result of the interrupted run that this one resumes, else a new measurement."""
    place = WORK / "done" / f"{what}-{tag.replace(':', '-')}-{gates}.json"
    if place.is_file():
        logger.info(f"bench: {what} was measured before the interruption ({place})")
        return msgspec.json.decode(place.read_bytes(), type=Rate)
    logger.info(f"bench: {what}, {gates} gates")
    rate = measure()
    write_atomically(place, encode_record(rate))
    return rate


def _use_a_core() -> None:
    """Keep one core busy half of the time."""
    while True:
        end = time.monotonic() + BUSY_S
        while time.monotonic() < end:
            pass
        time.sleep(BUSY_S)


@contextmanager
def noisy_neighbour() -> Iterator[None]:
    """Processes that keep all cores busy half of the time."""
    processes = [Process(target=_use_a_core, daemon=True) for _ in range(os.cpu_count() or 1)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def describe(rate: Rate) -> str:
    return (
        f"{rate.gates} gates: {rate.regressed:.1%} regressed ({rate.low:.1%} to {rate.high:.1%}), "
        f"{rate.inconclusive:.1%} inconclusive; {rate.seconds:.0f} s, {rate.rounds:.0f} rounds"
    )


def false_alarm_row(what: str, rate: Rate) -> Row:
    return row(f"false alarms, {what}", 100 * rate.regressed, "<=", 1, "%", describe(rate))


def verdict_rows(share: int) -> Iterator[Row]:
    """False alarms and power, alone and next to a noisy neighbour."""
    null, _ = build_image("null")
    gates = NULL_GATES // share
    null_rate = cached_rate("null", null, gates, lambda: measure_concurrently(null, gates))
    yield false_alarm_row(f"a release against itself, null engine, {CONCURRENT_GATES} at once", null_rate)
    real, digest = build_image("openvino")
    yield false_alarm_row("a release against itself, OpenVINO", measure_alone(real, REAL_GATES // share, 0.0))
    slowed = measure_alone(real, SLOWER_GATES // share, 0.05)
    yield row("power, 5 % slower, OpenVINO", 100 * slowed.regressed, ">=", 95, "%", describe(slowed))
    yield row("... a gate takes", slowed.seconds, "<=", 60 * MINUTES, "s", "median")
    slightly = measure_alone(real, max(1, UNSEEN_GATES // share), 0.03)
    yield row("power, 3 % slower, OpenVINO", 100 * slightly.regressed, ">=", 0, "%", f"no bound: {describe(slightly)}")
    yield neighbour_row(real, NOISY_GATES // share)
    with Ledger(LEDGER) as ledger:
        print(peers_table(ledger.gates(digest)), end="\n\n", flush=True)


def measure_alone(tag: str, gates: int, slower: float) -> Rate:
    return cached_rate(f"openvino-{slower:g}", tag, gates, lambda: measure_rate(tag, gates, slower))


def neighbour_row(tag: str, gates: int) -> Row:
    """Wrong verdicts: "regressed" for a release against itself, and "passed" for one that is 10 % slower."""

    def measured(slower: float) -> Rate:
        def measure() -> Rate:
            with noisy_neighbour():
                return measure_rate(tag, gates, slower, NOISY, NOISY_MINUTES)

        return cached_rate(f"noisy-{slower:g}", tag, gates, measure)

    same, slowed = measured(0.0), measured(0.1)
    wrong = same.regressed * same.gates + slowed.passed * slowed.gates
    note = f"unchanged: {describe(same)}; 10 % slower: {describe(slowed)}"
    return row("wrong verdicts next to a neighbour on all cores half of the time", wrong, "<=", 0, "gates", note)


def peers_table(gates: tuple[Gate, ...]) -> str:
    """The verdicts of each rule on the same rounds; this gate's include its second run."""
    rows = [(gate.name, f"{gate.slower:.0%}", gate.gates, gate.regressed) for gate in compare_rules(gates)]
    return table(rows, {"rule": "", "slower by": "", "gates": "", "says regressed": ".1%"})


def main() -> None:
    log_to_stderr()
    share = QUICK_SHARE if os.environ.get("QUICK") else 1
    groups = {
        "faults": faults.rows,
        "verdicts": lambda: verdict_rows(share),
        "a big ledger": lambda: big_ledger.rows(big_ledger.REPORTS // share),
    }
    print_rows([row for what, make in groups.items() for row in guarded_rows(what, make)])
    rmtree(WORK / "done")


if __name__ == "__main__":
    main()
