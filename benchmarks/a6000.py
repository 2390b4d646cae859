"""`make bench-a6000`: measures the recipes' candidates on this machine's GPU; a table for docs/benchmarks/a6000.md.

Needs a GPU that TensorRT for RTX supports. The table names it as NVML does, whatever this file is called.
"""

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.gate import run_toolchain
from deploy.containers.commands import bench_image
from toolchain.cli.console import log_to_stderr
from toolchain.errors import ToolchainError
from toolchain.records.report import Report
from toolchain.tables import table

RECIPES = ("recipes/cifar10-resnet20.toml", "recipes/efficientnet-lite0.toml")
SECONDS = 10
COLUMNS = {
    "net": "",
    "precision": "",
    "GPU, p50 ms": ".3f",
    "GPU, p99 ms": ".3f",
    "with copies, p50 ms": ".3f",
    "SingleStream p90, ms": ".3f",
    "Offline, 1/s": ",.0f",
    "mJ per image": ".2f",
    "MHz": "",
    "W": ".0f",
    "C": "",
    "held down by": "",
}


def measure(recipe: str) -> Iterator[Report]:
    """A report of every candidate, measured by its own container."""
    bundle = run_toolchain("build", recipe, "--target=tensorrt")
    image = run_toolchain("image", bundle["bundle"])["tag"]
    manifest: dict[str, Any] = run_toolchain("show", bundle["bundle"])
    for candidate in manifest["candidates"]:
        yield bench_image(image, SECONDS, "all", precision=candidate["precision"])


def table_row(report: Report) -> tuple[object, ...]:
    seen = report.gpu
    assert seen is not None
    clocks = "" if seen.clock_mhz is None else "{} to {}".format(*seen.clock_mhz)
    return (
        *(report.name, report.precision, seen.compute_ms[0], seen.compute_ms[2], seen.whole_ms[0]),
        report.scenario("SingleStream").percentile_ms(90.0),
        report.scenario("Offline").throughput_per_s,
        None if report.joules_per_picture is None else 1e3 * report.joules_per_picture,
        *(clocks, seen.power_w, seen.temperature_c, ", ".join(seen.throttled) or "nothing"),
    )


def main() -> None:
    log_to_stderr()
    try:
        reports = [report for recipe in RECIPES for report in measure(recipe)]
    except (ToolchainError, subprocess.CalledProcessError) as error:
        print(f"bench-a6000: not run: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    seen = reports[0].gpu
    assert seen is not None
    print(f"{seen.name}, driver {seen.driver}, {reports[0].engine}, power limit {seen.power_limit_w or 0:.0f} W\n")
    print(table([table_row(report) for report in reports], COLUMNS))


if __name__ == "__main__":
    main()
