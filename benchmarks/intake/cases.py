"""A hundred recipes as people write them, drawn here: those that should build do, the others end in one line.

QUICK=1: by the null target alone, which builds everything but engines; else by openvino too. CASES=w-whole,d-cut runs
some. Each runs in a process of its own, forked from one that has imported what a build needs.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks import logger
from benchmarks.intake.drawn.recipes import IntakeCase
from benchmarks.rows import Row, print_rows, row
from toolchain.cli.console import log_to_stderr

QUICK = bool(os.environ.get("QUICK"))
TARGETS = ("null",) if QUICK else ("null", "openvino")
KINDS = {
    "w": "checkpoints",
    "d": "folders",
    "l": "lists and archives",
    "t": "text files",
    "o": "ONNX files",
    "m": "what outputs say, and models at chance",
    "n": "without data, or without labels",
    "s": "steps",
    "i": "the training's own transform",
}
BUILT, REFUSED = (0,), (1, 2)
LIMIT_S = 600
SPAWN = multiprocessing.get_context("fork")


class Ending(NamedTuple):
    """How a command ended. fault: what is wrong with that, '' where it is as it should be."""

    case: IntakeCase
    fault: str


def rows() -> list[Row]:
    _import_builders()
    with TemporaryDirectory() as folder:
        return _measure(Path(folder))


def _measure(base: Path) -> list[Row]:
    cases = _draw(base)
    chosen = os.environ.get("CASES", "").split(",") if os.environ.get("CASES") else [case.name for case in cases]
    measured = []
    for target in TARGETS:
        endings = [_run(base, case, target) for case in cases if case.name in chosen]
        measured += [_kind_row(kind, target, endings) for kind in KINDS if any(_is_of(kind, end) for end in endings)]
    ran = (base / "ran").exists()
    return [*measured, row("code in a checkpoint that ran", int(ran), "<=", 0, "")]


def _kind_row(kind: str, target: str, endings: list[Ending]) -> Row:
    own = [ending for ending in endings if _is_of(kind, ending)]
    wrong = [f"{ending.case.name}: {ending.fault}" for ending in own if ending.fault]
    build = sum(ending.case.verdict == "builds" for ending in own)
    what = f"{KINDS[kind]}, {target}{', QUICK=1' if QUICK else ''}: {build} to build, {len(own) - build} to refuse"
    return row(what, len(own) - len(wrong), ">=", len(own), "", "; ".join(wrong))


def _is_of(kind: str, ending: Ending) -> bool:
    return ending.case.name.startswith(f"{kind}-")


def _run(base: Path, case: IntakeCase, target: str) -> Ending:
    log = base / f"{case.name}-{target}.log"
    process = SPAWN.Process(target=_build, args=(base, case.name, target, log))
    process.start()
    process.join(LIMIT_S)
    if process.is_alive():
        process.kill()
        process.join()
        return Ending(case, f"still running after {LIMIT_S} s")
    ending = Ending(case, _fault(case, process.exitcode, log.read_text()))
    logger.info(f"{case.name}, {target}: {ending.fault or case.verdict}")
    return ending


def _fault(case: IntakeCase, code: int | None, text: str) -> str:
    last = (text.strip().splitlines() or [""])[-1]
    if "Traceback (most recent call last)" in text:
        return f"a traceback: {last}"
    if code not in (BUILT if case.verdict == "builds" else REFUSED):
        return f"exit {code}, should be {case.verdict}: {last}"
    return "" if case.says in last else f"expected '{case.says}' in: {last}"


def _build(base: Path, name: str, target: str, log: Path) -> None:
    """What `toolchain build` does, in a forked process."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.chdir(base)
    os.environ["TOOLCHAIN_HOME"] = str(base / "home")
    sys.argv = ["toolchain", "build", f"{name}.toml", f"--target={target}"]
    from toolchain.cli import main

    main()


def _draw(base: Path) -> list[IntakeCase]:
    """Drawn in another process: one that has trained cannot be forked."""
    receive, send = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=_draw_all, args=(base, send.send))
    process.start()
    cases: list[IntakeCase] = receive.recv()
    process.join()
    return cases


def _draw_all(base: Path, send: Callable[[list[IntakeCase]], None]) -> None:
    from benchmarks.intake.drawn.checkpoints import draw_checkpoints
    from benchmarks.intake.drawn.data import draw_data
    from benchmarks.intake.drawn.graphs import draw_graphs
    from benchmarks.intake.drawn.inputs import draw_inputs
    from benchmarks.intake.drawn.outputs import draw_outputs
    from benchmarks.intake.drawn.recipes import draw_base

    module = draw_base(base)
    cases = [*draw_checkpoints(base, module), *draw_data(base), *draw_graphs(base, module)]
    send([*cases, *draw_outputs(base), *draw_inputs(base)])


def _import_builders() -> None:
    """What every build would spend seconds on."""
    import onnx
    import torch
    import torchvision

    from toolchain.build import pipeline

    logger.info(f"torch {torch.__version__}, torchvision {torchvision.__version__}, onnx {onnx.__version__}")
    logger.info(f"building by {pipeline.__name__}")


if __name__ == "__main__":
    log_to_stderr()
    print_rows(rows())
