"""Nine architectures and EfficientNet-Lite0: pruned, exported, OpenVINO fp32 and int8. Do all answer alike, how fast?

python -m benchmarks.compression.zoo; NETS=vgg16,resnet50 for some. What stands in for a training, so that agreement
means something and accuracy nothing: untrained.py and, for four nets, zoo_net.py ("taught": so many epochs of 32
pictures). Weights are torchvision's own where they can be fetched, else random; the table says which. One net at a
time, one thread, batch 1.
"""

import os
import sys
from collections.abc import Sequence
from shutil import rmtree

import msgspec
import torch

from benchmarks.compression.zoo_net import NETS, SEED, THREADS, Found, code, measured
from benchmarks.rows import Row, print_rows
from toolchain.cli.console import log_to_stderr
from toolchain.errors import ToolchainError
from toolchain.job.stage_cache import StageCache
from toolchain.paths import home
from toolchain.records.storage import encode_record, write_atomically
from toolchain.tables import table

COLUMNS = {
    "net": "",
    "weights": "",
    "taught": "",
    "MACs, M": ",.0f",
    "pruned": ",.0f",
    "fp32, ms": ".2f",
    "pruned, ms": ".2f",
    "int8, ms": ".2f",
    "fp32 off by": ".1e",
    "int8 agrees": ".0%",
    "s": ".0f",
}


def result(name: str) -> Found:
    """Measured now, or kept by an interrupted run, which goes on."""
    folder = home() / "zoo" / name
    path = folder / "found.json"
    if path.is_file() and (found := msgspec.json.decode(path.read_bytes(), type=Found)).code == code(folder):
        return found
    found = measured(name, StageCache(folder, SEED))
    write_atomically(path, encode_record(found))
    return found


def line(found: Found) -> tuple[object, ...]:
    fp32 = max(one.relative for one in found.parity if not one.candidate.endswith("int8"))
    int8 = min(one.top1_agreement for one in found.parity if one.candidate.endswith("int8"))
    millions = [count / 1e6 for count in found.macs]
    return (found.net, found.about.weights, found.about.epochs, *millions, *found.latency_ms, fp32, int8, found.seconds)


def row(name: str, result: Found | str) -> Row:
    """Holds when every pair agrees by parity's own bounds; a str: what refused the net."""
    what, bound = f"{name}: pruned, exported, int8; pairs that disagree", "<= 0 pairs"
    if isinstance(result, str):
        return Row(what, None, bound, False, result)
    failed = [one for one in result.parity if not one.passed]
    notes = [f"{one.candidate}: off by {one.relative:.2g}, agrees {one.top1_agreement:.0%}" for one in failed]
    times = f"{result.macs[0] / result.macs[1]:.2f} times fewer MACs, {result.about.importance}"
    whole_ms, *others_ms = result.latency_ms
    faster = "{:.2f} times faster, {:.2f} in int8".format(*(whole_ms / one for one in others_ms))
    blocks = f"prune_blocks {result.blocks}"
    return Row(what, len(failed), bound, not failed, "; ".join([*notes, times, faster, blocks]))


def rows(names: Sequence[str]) -> list[Row]:
    """A row a net; the table is printed. What an interrupted run kept goes when all of them are done."""
    torch.set_num_threads(THREADS)
    found: dict[str, Found | str] = {}
    for name in names:
        try:
            found[name] = result(name)
        except ToolchainError as error:
            found[name] = str(error)
    print(table([line(one) for one in found.values() if isinstance(one, Found)], COLUMNS), end="\n\n")
    for name in names:
        rmtree(home() / "zoo" / name, ignore_errors=True)
    return [row(name, one) for name, one in found.items()]


def main() -> None:
    log_to_stderr()
    names = [name for name in os.environ.get("NETS", "").split(",") if name] or list(NETS)
    unknown = [name for name in names if name not in NETS]
    if unknown:
        sys.exit(f"NETS: no net '{unknown[0]}'; there are: {', '.join(NETS)}")
    print_rows(rows(names))


if __name__ == "__main__":
    main()
