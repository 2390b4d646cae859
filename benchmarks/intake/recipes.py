"""500 recipes mutated at random: each builds or ends in one line, exit 1 or 2; no traceback, nothing half-written.

    python -m benchmarks.intake.recipes              # QUICK=1: 60; NUMBERS=17,42 some of them, with what they said

Most are built by one process after the other, every twentieth by the real command in a process of its own.
"""

import os
import tempfile
from collections import Counter
from pathlib import Path

from benchmarks import logger
from benchmarks.intake.recipe_mutations import mutated_recipe
from benchmarks.intake.recipe_runs import RunOutcome, Worker, faults_of, run_alone, write_folder
from benchmarks.rows import Row, print_rows, row
from toolchain.cli.console import log_to_stderr

COUNT, QUICK_COUNT = 500, 60
ALONE = 20  # each such number is built by the real command
SAY_EVERY = 25


def chosen_numbers() -> tuple[int, ...]:
    if numbers := os.environ.get("NUMBERS"):
        return tuple(int(number) for number in numbers.split(","))
    return tuple(range(QUICK_COUNT if os.environ.get("QUICK") else COUNT))


def build_all(numbers: tuple[int, ...], folder: Path) -> tuple[dict[int, RunOutcome], dict[int, list[str]]]:
    """What became of each number, and what is wrong with it."""
    write_folder(folder)
    home = folder / "home"
    worker, outcomes, faults = Worker(home), dict[int, RunOutcome](), dict[int, list[str]]()
    known: set[str] = set()  # what an earlier one left is not this one's
    try:
        for count, number in enumerate(numbers):
            if count % SAY_EVERY == 0:
                logger.info(f"recipes: {count} of {len(numbers)}, {len(faults)} at fault")
            recipe = folder / "mutated.toml"
            recipe.write_bytes(mutated_recipe(number))
            outcome = run_alone(recipe, home) if is_run_alone(number) else worker.run(recipe)
            outcomes[number] = outcome
            wrong = [fault for fault in faults_of(outcome, home) if fault not in known]
            known |= {fault for fault in wrong if fault.startswith(("left behind", "half a bundle"))}
            if wrong:
                faults[number] = wrong
                logger.info(f"recipe {number}: {'; '.join(wrong)}")
            if os.environ.get("NUMBERS"):
                logger.info(f"recipe {number}: exit {outcome.status}: {outcome.stderr}")
    finally:
        worker.stop()
    return outcomes, faults


def is_run_alone(number: int) -> bool:
    return number % ALONE == ALONE - 1


def rows() -> list[Row]:
    """The row of `make bench-intake`."""
    numbers = chosen_numbers()
    with tempfile.TemporaryDirectory(prefix="bench-recipes-") as folder:
        outcomes, faults = build_all(numbers, Path(folder))
    counts = Counter(outcome.status for outcome in outcomes.values())
    note = ", ".join(f"exit {status}: {count}" for status, count in sorted(counts.items()))
    first = "; ".join(f"{number}: {wrong[0]}" for number, wrong in list(faults.items())[:5])
    built = row("recipes: mutated ones that build all the same", counts[0], ">=", 1, "", note)
    what = f"recipes: of {len(numbers)} mutated, those that end otherwise than in a bundle or one line"
    alone = sum(map(is_run_alone, numbers)) / len(numbers)
    share = row("recipes: share run by the real command, the others in a process that lives on", alone, ">=", 0.05, "")
    return [row(what, len(faults), "<=", 0, "", first), built, *([share] if len(numbers) >= ALONE else [])]


def main() -> None:
    log_to_stderr()
    print_rows(rows())


if __name__ == "__main__":
    main()
