"""The statistics extension of the Open Inference Protocol: counters -> records.

The same records answer HTTP (as JSON) and gRPC (ModelStatistics has the same fields). Pure functions; no HTTP.
"""

import msgspec

from deploy.runtime.metrics import Histogram, Metrics
from toolchain.records.manifest import Manifest


class Duration(msgspec.Struct, frozen=True):
    """How often, and the total nanoseconds."""

    count: int = 0
    ns: int = 0


class InferStatistics(msgspec.Struct, frozen=True):
    """success, fail: whole requests; compute_input: parsing and decoding. Replies are not cached: cache_* stay 0."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration = Duration()
    cache_miss: Duration = Duration()


class ModelStatistics(msgspec.Struct, frozen=True):
    """last_inference: milliseconds since 1970, 0 before the first; inference_count: images (rows of a batch);
    execution_count: engine calls."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    batch_stats: tuple[()] = ()


class Statistics(msgspec.Struct, frozen=True):
    """Of the one model that is served."""

    model_stats: tuple[ModelStatistics, ...]


def statistics(manifest: Manifest, metrics: Metrics) -> Statistics:
    """Since the server started."""
    return Statistics((_model_statistics(manifest, metrics),))


def _model_statistics(manifest: Manifest, metrics: Metrics) -> ModelStatistics:
    metrics.flush()
    stages = metrics.stages
    return ModelStatistics(
        name=manifest.name,
        version=manifest.release,
        last_inference=int(metrics.last_inference_s * 1e3),
        inference_count=metrics.images,
        execution_count=_duration(metrics.batches).count,
        inference_stats=InferStatistics(
            success=_duration(metrics.infer_requests),
            fail=Duration(metrics.failures, _ns(metrics.failed_s)),
            queue=_duration(stages["queue"]),
            # every request is parsed, but only some are decoded
            compute_input=Duration(_duration(stages["parse"]).count, _ns(stages["parse"].sum + stages["decode"].sum)),
            compute_infer=_duration(stages["infer"]),
            compute_output=_duration(stages["encode"]),
        ),
    )


def _duration(histogram: Histogram) -> Duration:
    return Duration(sum(histogram.counts), _ns(histogram.sum))


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
