"""Builds one plan in a process that does nothing else and prints the time and the process's peak memory.

python -m benchmarks.tensorrt_build GRAPH.onnx; `make bench-tensorrt` calls it.
"""

import sys
from pathlib import Path

import msgspec

from deploy.runtime.device.cgroup import peak_memory_bytes
from deploy.runtime.engines.tensorrt_plan import build_plan, load_library
from toolchain.backends.tensorrt import A6000, USUAL_BATCHES


class PlanBuild(msgspec.Struct, frozen=True):
    """layers: as the builder logs them."""

    engine: str
    seconds: float
    peak_bytes: int
    plan_bytes: int
    layers: tuple[str, ...]


def main() -> None:
    library = load_library("rtx")
    plan = build_plan(library, Path(sys.argv[1]).read_bytes(), USUAL_BATCHES, A6000)
    peak_bytes = peak_memory_bytes()  # getrusage would start at the parent process's figure
    result = PlanBuild(library.version, plan.seconds, peak_bytes, len(plan.content), plan.layers)
    print(msgspec.json.encode(result).decode())


if __name__ == "__main__":
    main()
