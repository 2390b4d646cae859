"""One plan, built in a process that does nothing else: how long it took, and the most memory that the process held.

python -m benchmarks.tensorrt_build GRAPH.onnx; `make bench-tensorrt` calls it.
"""

import sys
from pathlib import Path

import msgspec

from deploy.runtime.device.cgroup import peak_memory_bytes
from deploy.runtime.engines.tensorrt_plan import build_plan, load_library
from toolchain.backends.tensorrt import A6000, USUAL_BATCHES


class Built(msgspec.Struct, frozen=True):
    """layers: as the builder tells them."""

    engine: str
    seconds: float
    peak_bytes: int
    plan_bytes: int
    layers: tuple[str, ...]


def main() -> None:
    found = load_library("rtx")
    plan = build_plan(found, Path(sys.argv[1]).read_bytes(), USUAL_BATCHES, A6000)
    peak_bytes = peak_memory_bytes()  # getrusage would begin with the figure of who started this process
    print(msgspec.json.encode(Built(found.version, plan.seconds, peak_bytes, len(plan.content), plan.layers)).decode())


if __name__ == "__main__":
    main()
