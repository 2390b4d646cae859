"""Benchmarks an image on this device, interleaved with its baselines; the result is cached per image and device."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.containers.commands import bench_image
from deploy.containers.run_once import interleaved_command
from deploy.gate.interleaved import ContainerRunner, Runner, run_interleaved
from toolchain.job.stage import Stage
from toolchain.records.report import Report
from toolchain.workflows.baselines import baselines
from toolchain.workflows.certify import device_inputs

if TYPE_CHECKING:
    from deploy.containers.serve import ServerContainer
    from deploy.images.build import BuiltImage
    from toolchain.job.job import BuildJob
    from toolchain.job.stage_cache import StageCache

BENCH_SECONDS, ROUNDS, QUERIES = 5.0, 12, 64


def benchmark_on_device(
    job: "BuildJob", cache: "StageCache", image: "BuiltImage", precision: str, container: "ServerContainer"
) -> Report:
    """The image's own report of `precision`, and its latencies interleaved with those of the baselines."""

    def make(_: Path, __: Path) -> Report:
        report = bench_image(image.tag, BENCH_SECONDS)
        command = interleaved_command(image.tag, threads=job.threads)
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            served: Runner = ContainerRunner(process, precision)
            with baselines(job, cache) as others:
                duet = run_interleaved((*others, served), ROUNDS, QUERIES, threads=job.threads)
        return msgspec.structs.replace(report, interleaved=duet, cold_start_s=container.cold_start_s)

    inputs = {**device_inputs(image, job.threads), "precision": precision}
    return cache.run(Stage("report", "benchmark: the container measures itself", Report, inputs, make)).record
