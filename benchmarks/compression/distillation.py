"""Every kind of distillation against none: ResNet-8 taught by ResNet-20 on CIFAR-10, all with one budget.

    python -m benchmarks.compression.distillation
    python -m benchmarks.compression.distillation --samples=512 --epochs=1 --seeds=1

A second teacher, of another family, is any of vgg11, vgg16, resnet56 and resnet32 in examples/cifar10 (train.py there
makes one); without it three kinds fall short. A run is one kind with one seed; its accuracy on the 10,000 test images
is kept in the toolchain's cache under what it depends on, so that an interrupted benchmark goes on where it was. On a
CPU two runs go side by side with one thread each, on a GPU one after the other. The budget is that of one net:
born_again trains two of them in turn, distill_mutual two side by side.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from benchmarks.compression.distillation_runs import KINDS, NONE, TEST_IMAGES, Budget, Kind, Run, runs
from benchmarks.rows import Row, print_rows
from toolchain.cli.console import log_to_stderr
from toolchain.tables import table


@dataclass(frozen=True)
class Line:
    """A kind's accuracy over seeds, a share 0..1; std is None for one seed, everything for a kind that was not run.
    gain, noise: points, the gain's two standard errors."""

    kind: Kind
    mean: float | None
    std: float | None
    gain: float | None
    noise: float
    seconds: float | None


def lines_of(found: Sequence[Run], kinds: Sequence[Kind] = KINDS) -> list[Line]:
    """One a kind. The spread is taken over all kinds together, as few seeds tell little of each; it is no less than
    what 10,000 test images leave open."""
    by_kind = {kind.name: [run for run in found if run.kind == kind.name] for kind in kinds}
    spreads = [variance([run.accuracy for run in group]) for group in by_kind.values() if len(group) > 1]
    base = fmean(run.accuracy for run in by_kind[NONE])
    pooled = max(fmean(spreads) if spreads else 0.0, base * (1 - base) / TEST_IMAGES)
    lines = []
    for kind in kinds:
        shares = [run.accuracy for run in by_kind[kind.name]]
        noise = 200 * (pooled / len(by_kind[NONE]) + pooled / max(1, len(shares))) ** 0.5
        mean = fmean(shares) if shares else None
        std = variance(shares) ** 0.5 if len(shares) > 1 else None
        seconds = fmean(run.seconds for run in by_kind[kind.name]) if shares else None
        lines.append(Line(kind, mean, std, None if mean is None else 100 * (mean - base), noise, seconds))
    return lines


def rows(lines: Sequence[Line]) -> list[Row]:
    """What must hold of each kind: its least gain, or no loss beyond noise unless the reason is stated."""
    return [_row(line) for line in lines if line.kind.name != NONE]


def _row(line: Line) -> Row:
    kind, what = line.kind, f"distillation, {line.kind.name}: gain over no teacher"
    least = -line.noise if kind.least_gain is None else kind.least_gain
    bound = f">= {least:.2g} points" + (" (noise)" if kind.least_gain is None else "")
    if line.gain is None:
        return Row(what, None, bound, False, "no net of another family in examples/cifar10")
    assert line.mean is not None
    holds = line.gain >= least
    note = f"{line.mean:.2%}" + ("" if holds or not kind.reason else f"; {kind.reason}")
    return Row(what, line.gain, bound, holds or (kind.least_gain is None and bool(kind.reason)), note)


def table_of(lines: Sequence[Line]) -> str:
    """For people: accuracies in percent."""
    percent = [
        (None if one.mean is None else 100 * one.mean, None if one.std is None else 100 * one.std) for one in lines
    ]
    cells = [
        (one.kind.name, mean, std, one.gain, one.noise, one.seconds)
        for one, (mean, std) in zip(lines, percent, strict=True)
    ]
    heads = {"kind": "", "test, %": ".2f", "std": ".2f", "gain, points": "+.2f", "noise": ".2f", "s a run": ".0f"}
    return table(cells, heads)


def distillation(budget: Budget, workers: int | None = None) -> tuple[list[Row], str]:
    """The rows and the table. workers: None: two on a CPU, one on a GPU."""
    import torch

    on_gpu = torch.cuda.is_available()
    lines = lines_of(list(runs(budget, workers or (1 if on_gpu else 2))))
    title = (
        f"ResNet-8 from ResNet-20, {'GPU' if on_gpu else 'CPU'}: {budget.samples} training pictures, {budget.epochs} "
        f"epochs, batch {budget.batch_size}, lr {budget.lr:g}, {budget.seeds} seeds; judged on {TEST_IMAGES} images"
    )
    return rows(lines), f"{title}\n{table_of(lines)}"


def main() -> None:
    log_to_stderr()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("samples", "epochs", "seeds", "workers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Budget(), name, None))
    given = parser.parse_args()
    found, shown = distillation(Budget(given.samples, given.epochs, given.seeds), given.workers)
    print(shown, end="\n\n")
    print_rows(found)


if __name__ == "__main__":
    main()
