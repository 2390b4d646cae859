"""Measures a candidate on this machine: its scores for many images, and its latency for one.

Uses the same engine code that will serve. Knows nothing of accuracy thresholds or of the choice (choose.py does).
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from deploy.runtime.engines import Engine
from toolchain.progress import track
from toolchain.records.output import SOFTMAX, OutputKind
from toolchain.records.tensors import Array

if TYPE_CHECKING:
    from toolchain.data.dataset import ImageSource

BATCH = 64
ROUNDS = 9
SLICE_S = 0.25
LEAST_CALLS = 5
INPUTS = 32  # different images in turn: an image that stays in the CPU's cache would be too fast


def decisions_of(engine: Engine, images: "ImageSource", what: str, output: OutputKind = SOFTMAX) -> Array:
    """The class that the engine gives every image [N], or the labels [N, labels]."""
    return output.decide(scores_of(engine, images, what))


def scores_of(engine: Engine, images: "ImageSource", what: str) -> Array:
    """The engine's scores [N, outputs], in batches of 64, as many at once as keep the engine busy."""
    source, target = engine.inputs[0].name, engine.outputs[0].name
    batch = BATCH if engine.inputs[0].shape[0] is None else engine.inputs[0].shape[0]

    def answer(start: int) -> Array:
        return engine.infer({source: images[start : start + batch]})[target]

    starts = range(0, len(images), batch)
    pool = ThreadPoolExecutor(engine.requests)
    try:
        return np.concatenate(list(track(pool.map(answer, starts), what, len(starts))))
    finally:
        pool.shutdown(cancel_futures=True)


def latencies_ms(engines: Mapping[str, Engine], images: "ImageSource") -> dict[str, float]:
    """Median latency of one image, for each engine.

    All engines take turns, in slices of a quarter of a second and in alternating order, so that a machine that slows
    down affects all of them (duet benchmarking, arXiv 2001.05811). The first round warms up. The result is the median
    of the slices' medians: the slice is the unit, since calls within one are not independent.
    """
    return in_turn_ms({name: caller(engine, images) for name, engine in engines.items()})


def in_turn_ms(callers: Mapping[str, Callable[[int], object]]) -> dict[str, float]:
    """latencies_ms of whatever is called, with the number of the call: engines of nets with other inputs too."""
    slices: dict[str, list[float]] = {name: [] for name in callers}
    for number in track(range(ROUNDS + 1), "latency: rounds"):
        for name in sorted(callers, reverse=number % 2 == 1):
            slices[name].append(_slice_ms(callers[name]))
    return {name: median(times[1:]) for name, times in slices.items()}


def caller(engine: Engine, images: "ImageSource") -> Callable[[int], object]:
    """Asks `engine` for one picture, each time another one."""
    inputs = [np.ascontiguousarray(images[index : index + 1]) for index in range(min(INPUTS, len(images)))]
    feeds = [{engine.inputs[0].name: image} for image in inputs]
    return lambda call: engine.infer(feeds[call % len(feeds)])


def _slice_ms(call: Callable[[int], object]) -> float:
    taken: list[float] = []
    end = time.perf_counter() + SLICE_S
    while len(taken) < LEAST_CALLS or time.perf_counter() < end:
        began = time.perf_counter()
        call(len(taken))
        taken.append((time.perf_counter() - began) * 1000)
    return median(taken)
