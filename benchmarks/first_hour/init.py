"""`toolchain init` on twelve models as people bring them: a recipe that builds, with the [input] of their training.

Trains each for a minute first. QUICK=1: the first four. CASES=word,word: those whose names have one of the words.
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from benchmarks import logger
from benchmarks.first_hour.init_cases import InitCase, draw_folders, write_cases
from benchmarks.rows import Row, print_rows, row
from toolchain.build.pipeline import build
from toolchain.cli.console import log_to_stderr
from toolchain.errors import ToolchainError
from toolchain.init.propose import InitRequest, propose_recipe
from toolchain.init.questions import Asker
from toolchain.init.trial_build import build_trial
from toolchain.paths import HOME
from toolchain.records.tensors import Preprocessing
from toolchain.transform.colours import normalize
from toolchain.workflows.evaluate import evaluate_accuracy

QUICK = bool(os.environ.get("QUICK"))
QUICK_CASES = 4
LEAST = 11  # of twelve
TARGET = "null"  # builds everything but the engine
LEVELS = 8.0  # of 255, by which what is found may differ from what was trained with
NOISE = 0.03  # of accuracy, between the recipe's [input] and that of the training


def rows() -> list[Row]:
    with TemporaryDirectory() as folder:
        base = Path(folder)
        draw_folders(base)
        before = os.environ.get(HOME)
        os.environ[HOME] = str(base / "home")
        try:
            return [_measure(base)]
        finally:
            os.environ.pop(HOME)
            if before is not None:
                os.environ[HOME] = before


def _measure(base: Path) -> Row:
    words = os.environ.get("CASES", "").split(",")
    cases = [(name, make) for name, make in write_cases(base) if any(word in name for word in words)]
    cases = cases[:QUICK_CASES] if QUICK else cases
    wrong = []
    for name, make in cases:
        fault = find_fault(make(), base)
        logger.info(f"init: {name}: {fault or 'builds, preprocessing right'}")
        wrong += [f"{name}: {fault}"] if fault else []
    least = LEAST * len(cases) // 12
    what = f"init on {len(cases)} models{', QUICK=1' if QUICK else ''}: recipe builds, preprocessing right"
    return row(what, len(cases) - len(wrong), ">=", least, "", "; ".join(wrong))


def find_fault(case: InitCase, base: Path) -> str:
    """What is wrong with the recipe, '' where nothing is."""
    out = base / f"{case.name}.toml"
    weights = Path(case.weights) if case.weights else None
    try:
        proposal = propose_recipe(InitRequest(case.model, base / case.data, out, weights), Asker(may_ask=False))
        if proposal.not_found:
            return f"not found out: {'; '.join(proposal.not_found)}"
        if fault := _input_fault(proposal.input, case.input):
            return fault
        # a new head is trained, which is not what is measured here
        if case.accuracy is None:
            build_trial(out, TARGET)
            return ""
        build(out, TARGET, None)
        accuracy = evaluate_accuracy(str(out), None).accuracy
    except ToolchainError as error:
        return str(error)
    if accuracy >= case.accuracy - NOISE:
        return ""
    return f"built, but {accuracy:.0%} of the test images are right, {case.accuracy:.0%} as it was trained"


def _input_fault(found: Preprocessing, right: Preprocessing) -> str:
    for key in ("height", "width", "channels", "order"):
        if getattr(found, key) != getattr(right, key):
            return f"{key} = {getattr(found, key)}, {getattr(right, key)} in training"
    ends = np.array([[[0] * right.channels, [255] * right.channels]], np.uint8)
    std = np.reshape(np.asarray(right.std), (-1, 1, 1)) * right.scale
    off = float((np.abs(normalize(ends, found) - normalize(ends, right)) * std).max())
    if off <= LEVELS:
        return ""
    values = msgspec.json.encode({key: getattr(found, key) for key in ("mean", "std", "scale")}).decode()
    return f"values are up to {off:.0f} of 255 levels off: {values}"


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
