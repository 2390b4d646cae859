"""`make bench-house`: the shape of the sources, the README, the tests' time and steadiness, each against its bound.

QUICK=1 leaves out what runs the whole test suite. ORDERS=1 LOADED=2: fewer shuffled and fewer loaded runs. Run it with
nothing beside it: the tests' times are those of a machine that is otherwise idle.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.house import sources
from benchmarks.house.walk import walk
from benchmarks.rows import Row, guarded_rows, print_rows, row
from docs.generate.pages import DOCS, PAGES
from tests.house.tree import ROOT, cyclic_imports

BIN = Path(sys.executable).parent
QUICK = bool(os.environ.get("QUICK"))
ORDERS, LOADED = (int(os.environ.get(name, count)) for name, count in (("ORDERS", 5), ("LOADED", 10)))
HELP_RUNS = 11
SPIN = "while True: pass"
RETURNS_BEFORE = 71  # by the same counter before there was a build job that stages take values from
DOCUMENTED = ("reference/recipe.md", "reference/inventory.md", "reference/container.md")


def source_rows() -> list[Row]:
    folder, most = sources.modules_a_folder().most_common(1)[0]
    lengths, repeated, participles = sources.function_lines(), sources.repeated_type_names(), sources.participles()
    return [
        row("modules a folder, at most", most, "<=", 16, "", folder),
        row("import cycles, lazy and type-only ones included", len(cyclic_imports()), "<=", 0, "modules"),
        row("file, median", sources.file_median(), "<=", 95, "lines"),
        row("function, median", median(lengths), "<=", 7, "lines"),
        row("function, p90", sources.percentile(lengths, 0.9), "<=", 18, "lines"),
        row("functions that are fully typed", 100 * sources.typed_share(), ">=", 100, "%"),
        row("type names that stand twice", len(repeated), "<=", 0, "", ", ".join(repeated)),
        row("function names that are a bare past participle", len(participles), "<=", 15, "", ", ".join(participles)),
        row("README", sources.readme_kb(), "<=", 7, "kB"),
    ]


def help_row() -> Row:
    seconds = []
    for _ in range(HELP_RUNS):
        began = time.monotonic()
        subprocess.run([BIN / "toolchain", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.monotonic() - began)
    return row(
        "toolchain --help, median", median(seconds), "<=", 0.3, "s", f"{HELP_RUNS} runs, at most {max(seconds):.2f} s"
    )


def walk_row() -> Row:
    found = walk()
    note = (
        f"{len(found.stays)} stays in {len(set(found.stays))} modules; {found.functions} functions are handed the job"
    )
    return row(
        "returns of a build job to a module that it had left", found.returns, "<=", RETURNS_BEFORE // 2, "", note
    )


def documented_row() -> Row:
    """The keys that the code has, against those on the committed pages; the generator refuses an unexplained key."""
    what = "recipe, inventory and server keys documented"
    try:
        fresh = {name: _keys_on(PAGES[name]()) for name in DOCUMENTED}
    except ValueError as error:
        return Row(what, None, ">= 100 %", False, str(error))
    committed = {name: _keys_on((DOCS / name).read_text()) for name in DOCUMENTED}
    missing = [key for name in DOCUMENTED for key in fresh[name] if key not in committed[name]]
    there = sum(map(len, fresh.values()))
    note = f"{there} keys" + (f"; missing: {', '.join(missing)}" if missing else "")
    return row(what, 100 * (1 - len(missing) / there), ">=", 100, "%", note)


def _keys_on(page: str) -> list[str]:
    """The first cells of a reference page's tables: `| `key` | type | …`."""
    return re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE)


def timed_row(target: str, minutes: float) -> Row:
    """`make TARGET` from start to end, set-up included; a run with a failed test counts as not measured."""
    what = f"make {target}"
    if QUICK:
        return Row(what, None, f"<= {minutes:g} min", False, "not run: QUICK=1")
    began = time.monotonic()
    done = subprocess.run(["make", target], cwd=ROOT, check=False, stdout=sys.stderr)
    took = (time.monotonic() - began) / 60
    if done.returncode:
        return Row(what, None, f"<= {minutes:g} min", False, f"failed after {took:.1f} min")
    return row(what, took, "<=", minutes, "min")


def shuffled_row() -> Row:
    """The whole suite in several random orders; the seeds are in the note."""
    what = f"the whole suite in {ORDERS} random orders: runs with a failure"
    if QUICK:
        return Row(what, None, "<= 0", False, "not run: QUICK=1")
    seeds = range(1, ORDERS + 1)
    failed = [seed for seed in seeds if not _passes("make", "test", f"SEED={seed}")]
    return row(what, len(failed), "<=", 0, "", f"seeds {seeds.start} to {seeds.stop - 1}; failed: {failed or 'none'}")


def loaded_row() -> Row:
    """The container's tests while two processes spin: nothing may depend on an idle machine."""
    what = f"tests/deploy/runtime beside two CPU hogs, {LOADED} runs: runs with a failure"
    if QUICK:
        return Row(what, None, "<= 0", False, "not run: QUICK=1")
    with two_hogs():
        failed = sum(not _passes(str(BIN / "python"), "-m", "pytest", "tests/deploy/runtime") for _ in range(LOADED))
    return row(what, failed, "<=", 0, "")


def _passes(*command: str) -> bool:
    return subprocess.run(command, cwd=ROOT, check=False, stdout=sys.stderr).returncode == 0


@contextmanager
def two_hogs() -> Iterator[None]:
    hogs = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(2)]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()


def main() -> None:
    groups: dict[str, Callable[[], Iterable[Row]]] = {
        "sources": source_rows,
        "walk of a recipe": lambda: [walk_row()],
        "documented keys": lambda: [documented_row()],
        "toolchain --help": lambda: [help_row()],
        "make test-fast": lambda: [timed_row("test-fast", 2)],
        "make test": lambda: [timed_row("test", 15)],
        "tests beside hogs": lambda: [loaded_row()],
        "random orders": lambda: [shuffled_row()],
    }
    print_rows([row for what, make in groups.items() for row in guarded_rows(what, make)])


if __name__ == "__main__":
    main()
