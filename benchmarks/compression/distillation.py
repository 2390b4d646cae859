"""Every kind of distillation against none: ResNet-8 learns from ResNet-20 on CIFAR-10, all with the same budget.

    python -m benchmarks.compression.distillation
    python -m benchmarks.compression.distillation --samples=512 --epochs=1 --seeds=1

A second teacher, of another family, is any of vgg11, vgg16, resnet56 and resnet32 in examples/cifar10 (train.py there
makes one); without it three kinds fail. A run is one kind with one seed; its accuracy on the 10,000 test images is
cached, so an interrupted benchmark resumes. On a CPU two runs go in parallel with one thread each, on a GPU one after
the other. The budget is per model: born_again trains two in turn, distill_mutual two at once.
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
    """A kind's accuracy over seeds, a share 0..1; std is None for one seed, all fields for a kind that was not run.
    gain: in points; noise: two standard errors of the gain."""

    kind: Kind
    mean: float | None
    std: float | None
    gain: float | None
    noise: float
    seconds: float | None


def lines_of(runs: Sequence[Run], kinds: Sequence[Kind] = KINDS) -> list[Line]:
    """One line per kind. The spread is pooled over all kinds, since few seeds say little about each, and is at least
    the sampling error of 10,000 test images."""
    by_kind = {kind.name: [run for run in runs if run.kind == kind.name] for kind in kinds}
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
    """The requirement for each kind: a minimum gain, or no loss beyond noise unless a reason is given."""
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
    """A table with accuracies in percent."""
    percent = [
        (None if line.mean is None else 100 * line.mean, None if line.std is None else 100 * line.std) for line in lines
    ]
    cells = [
        (line.kind.name, mean, std, line.gain, line.noise, line.seconds)
        for line, (mean, std) in zip(lines, percent, strict=True)
    ]
    heads = {"kind": "", "test, %": ".2f", "std": ".2f", "gain, points": "+.2f", "noise": ".2f", "s a run": ".0f"}
    return table(cells, heads)


def distillation(budget: Budget, workers: int | None = None) -> tuple[list[Row], str]:
    """The rows and the table. workers: None: two on a CPU, one on a GPU."""
    import torch

    on_gpu = torch.cuda.is_available()
    lines = lines_of(list(runs(budget, workers or (1 if on_gpu else 2))))
    title = (
        f"ResNet-8 from ResNet-20, {'GPU' if on_gpu else 'CPU'}: {budget.samples} training images, {budget.epochs} "
        f"epochs, batch {budget.batch_size}, lr {budget.lr:g}, {budget.seeds} seeds; judged on {TEST_IMAGES} images"
    )
    return rows(lines), f"{title}\n{table_of(lines)}"


def main() -> None:
    log_to_stderr()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("samples", "epochs", "seeds", "workers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Budget(), name, None))
    options = parser.parse_args()
    rows, shown = distillation(Budget(options.samples, options.epochs, options.seeds), options.workers)
    print(shown, end="\n\n")
    print_rows(rows)


if __name__ == "__main__":
    main()
