"""`python -m benchmarks.serving.bare MODEL.xml`: the bare engine, the upper bound for any server.

Like OpenVINO's benchmark_app: inputs are filled once and outputs never read; throughput with the throughput hint, the
engine's choice of streams and one request per stream, regardless of the servers' concurrency; concurrency 1 with the
latency hint, one request after the other. Threads are pinned, which is OpenVINO's default: nothing else computes
meanwhile. Operations that int8 leaves in float run in f32, as in our server (docs/lab.md: faster here than bf16).
"""

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino

from benchmarks.serving.slices import Slice

WARM_S = 0.1


class Ask(msgspec.Struct, frozen=True):
    """A slice at `concurrency`; if `picture` names an .npy file of uint8 [1, H, W, C], its logits instead."""

    seconds: float = 0.0
    concurrency: int = 1
    picture: str = ""


def compile_model(model: Path, hint: str) -> Any:
    """Compiled for batch 1: a graph with a dynamic batch is slower and not needed here."""
    core = openvino.Core()
    graph = core.read_model(model)
    graph.reshape([1, *(axis.get_length() for axis in list(graph.input().partial_shape)[1:])])
    return core.compile_model(graph, "CPU", {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": "f32"})


class Bare:
    """The model compiled for latency and for throughput."""

    def __init__(self, model: Path) -> None:
        self._one = compile_model(model, "LATENCY").create_infer_request()
        self._queue = openvino.AsyncInferQueue(compile_model(model, "THROUGHPUT"), 0)
        random = np.random.default_rng(0)
        for request in (self._one, *self._queue):
            data = request.get_input_tensor().data
            data[:] = random.integers(0, 256, data.shape, np.uint8)

    def answer(self, path: Path) -> list[float]:
        """The logits, by the model compiled for throughput."""
        request = self._queue[0]
        request.infer([np.load(path)])
        return [float(value) for value in request.get_output_tensor().data[0]]

    def play(self, ask: Ask) -> Slice:
        """Warm up, run the slice, and wait for requests in flight, as the load generator does."""
        play = self._one_by_one if ask.concurrency == 1 else self._many
        cpu, start = time.process_time(), time.perf_counter() + WARM_S
        finished = play(start + ask.seconds)
        inside = tuple(ms for ms, at in finished if at >= start)
        return Slice(ask.seconds, inside, len(finished), time.process_time() - cpu)

    def _one_by_one(self, end: float) -> list[tuple[float, float]]:
        """(ms, time) of each answer, measured from outside, as a client measures a server."""
        latencies, now = [], time.perf_counter()
        while now < end:
            self._one.infer()
            began, now = now, time.perf_counter()
            latencies.append(((now - began) * 1e3, now))
        return latencies[:-1]

    def _many(self, end: float) -> list[tuple[float, float]]:
        latencies, flying, queue = [], set(), self._queue
        while True:
            idle = queue.get_idle_request_id()
            now = time.perf_counter()
            if now >= end:
                break
            if idle in flying:
                latencies.append((queue[idle].latency, now))
            flying.add(idle)
            queue.start_async()
        queue.wait_all()
        return latencies


def main() -> None:
    bare = Bare(Path(sys.argv[1]))
    for line in sys.stdin:
        ask = msgspec.json.decode(line, type=Ask)
        result: object = bare.answer(Path(ask.picture)) if ask.picture else bare.play(ask)
        print(msgspec.json.encode(result).decode(), flush=True)


if __name__ == "__main__":
    main()
