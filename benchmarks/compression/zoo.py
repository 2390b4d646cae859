"""Nine architectures and EfficientNet-Lite0: pruned, exported, in OpenVINO fp32 and int8: parity and latency.

python -m benchmarks.compression.zoo; NETS=vgg16,resnet50 for some. Instead of training, which would take too long:
untrained.py and, for four networks, zoo_net.py ("epochs": that many on 32 images), so that agreement is meaningful and
accuracy is not. Weights are torchvision's own where they can be fetched, otherwise random; the table says which. One
network at a time, one thread, batch 1.
"""

import os
import sys
from collections.abc import Sequence
from shutil import rmtree

import msgspec
import torch

from benchmarks.compression.zoo_net import NETS, SEED, THREADS, NetFigures, code, measure_net
from benchmarks.rows import Row, guarded_rows, print_rows
from toolchain.cli.console import log_to_stderr
from toolchain.errors import ToolchainError
from toolchain.job.stage_cache import StageCache
from toolchain.paths import home
from toolchain.records.storage import encode_record, write_atomically
from toolchain.tables import table

COLUMNS = {
    "net": "",
    "weights": "",
    "epochs": "",
    "MACs, M": ",.0f",
    "pruned": ",.0f",
    "fp32, ms": ".2f",
    "pruned, ms": ".2f",
    "int8, ms": ".2f",
    "fp32 off by": ".1e",
    "int8 agrees": ".0%",
    "s": ".0f",
}


def result(name: str) -> NetFigures:
    """A measurement, or the cached one of an interrupted run."""
    folder = home() / "zoo" / name
    path = folder / "found.json"
    if path.is_file() and (measurement := msgspec.json.decode(path.read_bytes(), type=NetFigures)).code == code(folder):
        return measurement
    measurement = measure_net(name, StageCache(folder, SEED))
    write_atomically(path, encode_record(measurement))
    return measurement


def line(net: NetFigures) -> tuple[object, ...]:
    fp32 = max(pair.relative for pair in net.parity if not pair.candidate.endswith("int8"))
    int8 = min(pair.top1_agreement for pair in net.parity if pair.candidate.endswith("int8"))
    millions = [count / 1e6 for count in net.macs]
    return (net.net, net.about.weights, net.about.epochs, *millions, *net.latency_ms, fp32, int8, net.seconds)


def row(name: str, result: NetFigures | str) -> Row:
    """Passes if every pair agrees within parity's bounds; a str: the error that refused the network."""
    what, bound = f"{name}: pruned, exported, int8; pairs that disagree", "<= 0 pairs"
    if isinstance(result, str):
        return Row(what, None, bound, False, result)
    failed = [pair for pair in result.parity if not pair.passed]
    notes = [f"{pair.candidate}: off by {pair.relative:.2g}, agrees {pair.top1_agreement:.0%}" for pair in failed]
    times = f"{result.macs[0] / result.macs[1]:.2f} times fewer MACs, {result.about.importance}"
    whole_ms, *others_ms = result.latency_ms
    faster = "{:.2f} times faster, {:.2f} in int8".format(*(whole_ms / other_ms for other_ms in others_ms))
    blocks = f"prune_blocks {result.blocks}"
    return Row(what, len(failed), bound, not failed, "; ".join([*notes, times, faster, blocks]))


def rows(names: Sequence[str]) -> list[Row]:
    """One row per network; prints the table. Cached measurements are removed when all are done."""
    torch.set_num_threads(THREADS)
    results: dict[str, NetFigures | str] = {}
    for name in names:
        try:
            results[name] = result(name)
        except ToolchainError as error:
            results[name] = str(error)
    print(table([line(net) for net in results.values() if isinstance(net, NetFigures)], COLUMNS), end="\n\n")
    for name in names:
        rmtree(home() / "zoo" / name, ignore_errors=True)
    return [row(name, outcome) for name, outcome in results.items()]


def main() -> None:
    log_to_stderr()
    names = [name for name in os.environ.get("NETS", "").split(",") if name] or list(NETS)
    unknown = [name for name in names if name not in NETS]
    if unknown:
        sys.exit(f"NETS: no net '{unknown[0]}'; there are: {', '.join(NETS)}")
    print_rows(guarded_rows("zoo", lambda: rows(names)))


if __name__ == "__main__":
    main()
