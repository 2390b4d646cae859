"""All of torchvision's classifiers: pruned, exported, quantized, run by OpenVINO, and shown to TensorRT's parser.

    python -m benchmarks.intake.torchvision                  # hours on 2 cores; goes on where it was interrupted
    NETS=resnet18,vit_b_16 python -m benchmarks.intake.torchvision
    FAMILIES=1 python -m benchmarks.intake.torchvision       # the smallest of each family
    QUICK=1 python -m benchmarks.intake.torchvision          # four of them

Each network has a process of its own (torchvision_net.py) and its outcome is kept until the code changes. Run without
QUICK it writes the table of docs/guides/torchvision.md, of all that was run.
"""

import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec
from torchvision import models

from benchmarks import logger
from benchmarks.intake.guide import write_table
from benchmarks.intake.torchvision_net import NetOutcome, family_of
from benchmarks.rows import Row, print_rows, row
from toolchain.cli.console import log_to_stderr
from toolchain.job.code_digest import source_tree
from toolchain.paths import home
from toolchain.records.storage import encode_record, write_atomically

QUICK_NETS = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "vit_b_16")
STAGES = ("prune", "export", "openvino", "tensorrt")
TIMEOUT_S = 1800
SHARE = 0.95


class KeptOutcome(msgspec.Struct, frozen=True):
    """code: the digest of what was run; crash: how a process ended that printed no outcome."""

    code: str
    outcome: NetOutcome
    crash: str = ""


def all_nets() -> tuple[str, ...]:
    """Every classifier of torchvision, in its own order."""
    return tuple(models.list_models(module=models))


def parameters_of(name: str) -> int:
    return int(models.get_model_weights(name)["DEFAULT"].meta["num_params"])


def smallest_of_each_family() -> tuple[str, ...]:
    smallest: dict[str, str] = {}
    for name in sorted(all_nets(), key=parameters_of):
        smallest.setdefault(family_of(name), name)
    return tuple(smallest.values())


def chosen_nets() -> tuple[str, ...]:
    if os.environ.get("QUICK"):
        return QUICK_NETS
    if names := os.environ.get("NETS"):
        unknown = sorted(set(names.split(",")) - set(all_nets()))
        if unknown:
            raise SystemExit(f"NETS: no classifier '{unknown[0]}' in torchvision; there are: {', '.join(all_nets())}")
        return tuple(names.split(","))
    return smallest_of_each_family() if os.environ.get("FAMILIES") else tuple(sorted(all_nets(), key=parameters_of))


def try_or_read(name: str) -> KeptOutcome:
    """The network's outcome, from an earlier run of the same code, or now."""
    folder = home() / "intake-torchvision"
    place, code = folder / f"{name}.json", source_tree(folder).digest("benchmarks.intake.torchvision_net")
    if place.is_file() and (kept := msgspec.json.decode(place.read_bytes(), type=KeptOutcome)).code == code:
        return kept
    kept = _try(name, code)
    write_atomically(place, encode_record(kept))
    logger.info(f"{name}: {kept.crash or kept.outcome.failed or 'goes through'} ({kept.outcome.seconds:.0f} s)")
    return kept


def _try(name: str, code: str) -> KeptOutcome:
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.intake.torchvision_net", name]
    nothing = NetOutcome(name, family_of(name), 0)
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return KeptOutcome(code, nothing, f"no end after {TIMEOUT_S} s")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return KeptOutcome(code, nothing, lines[-1])
    return KeptOutcome(code, msgspec.json.decode(done.stdout.splitlines()[-1], type=NetOutcome))


def goes_through(kept: KeptOutcome, stage: str) -> bool:
    """Whether `stage` and those that it depends on took the network."""
    needed = (*STAGES[:2], stage, "load")
    return not kept.crash and not set(needed) & set(kept.outcome.failed)


def markdown(outcomes: Sequence[KeptOutcome]) -> str:
    """A row for each family, and a line for each network that does not go through."""
    lines = ["| family | networks | through OpenVINO int8 | taken by TensorRT's parser | parameters left |"]
    lines += ["|---|---|---|---|---|"]
    for family in sorted({kept.outcome.family for kept in outcomes}):
        members = [kept for kept in outcomes if kept.outcome.family == family]
        counts = [f"{sum(goes_through(kept, stage) for kept in members)} of {len(members)}" for stage in STAGES[2:]]
        names = ", ".join(f"`{kept.outcome.name}`" for kept in members)
        left = [after / before for before, after in (kept.outcome.parameters for kept in members) if before]
        shares = f"{min(left):.0%} to {max(left):.0%}" if len(left) > 1 else "".join(f"{share:.0%}" for share in left)
        lines.append(f"| {family} | {names} | {' | '.join(counts)} | {shares} |")
    said = [
        f"- `{kept.outcome.name}`: {stage}: {words}"
        for kept in outcomes
        for stage, words in {**kept.outcome.failed, **({"crash": kept.crash} if kept.crash else {})}.items()
    ]
    tried = f"{len(outcomes)} of torchvision's {len(all_nets())} classifiers were run for this table."
    return "\n".join([*lines, "", tried, *([""] if said else []), *said]) + "\n"


def rows_of(outcomes: Sequence[KeptOutcome]) -> list[Row]:
    crashed = [f"{kept.outcome.name}: {kept.crash}" for kept in outcomes if kept.crash]
    shares = []
    for stage, what in (("openvino", "prune -> PTQ -> OpenVINO"), ("tensorrt", "prune -> TensorRT's parser")):
        through = [kept for kept in outcomes if goes_through(kept, stage)]
        others = [
            f"{kept.outcome.name}: {kept.outcome.failed or kept.crash}" for kept in outcomes if kept not in through
        ]
        note = "; ".join([f"{len(through)} of {len(outcomes)}, of torchvision's {len(all_nets())}", *others])
        shares.append(row(f"torchvision: share through {what}", len(through) / len(outcomes), ">=", SHARE, "", note))
    what = "torchvision: networks that end in a traceback, a crash or never"
    return [*shares, row(what, len(crashed), "<=", 0, "", "; ".join(crashed))]


def rows() -> list[Row]:
    """The rows of `make bench-intake`."""
    return rows_of([try_or_read(name) for name in chosen_nets()])


def main() -> None:
    log_to_stderr()
    outcomes = [try_or_read(name) for name in chosen_nets()]
    if not os.environ.get("QUICK"):
        write_table("torchvision.md", "torchvision", markdown(outcomes))
    print_rows(rows_of(outcomes))


if __name__ == "__main__":
    main()
