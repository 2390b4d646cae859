"""Which of a bundle's candidates may serve on this device, before anything is measured: those that kept the accuracy
where they were built, and whose int8 sums do not saturate on this CPU.
"""

from deploy.runtime.engines.saturation import saturation_refusal
from toolchain.records.manifest import Candidate, Manifest

ROUNDING = 1e-9


def meets_accuracy_threshold(manifest: Manifest, one: Candidate) -> bool:
    """Whether a device may select it: the build measured it, and it kept the accuracy. Where that is not known, only
    fp32 beside the build's choice: what the others were held against."""
    if one.precision == manifest.chosen:
        return True
    if manifest.accuracy is None or one.accuracy is None:
        return not manifest.data.certify_part and one.precision == "fp32" and one.latency_ms is not None
    return one.accuracy >= manifest.accuracy.floor - ROUNDING  # as the build compared them


def refusal_here(manifest: Manifest) -> str | None:
    """Why none of the release's candidates may serve on this CPU, because their sums saturate here; None when one
    may."""
    return saturation_refusal(manifest.candidate(preferred_here(manifest)))


def preferred_here(manifest: Manifest) -> str:
    """What serves before anything is measured: the build's choice, or the fastest of the others where that one would
    saturate on this CPU and the recipe lets a device choose."""
    others = [one for one in manifest.candidates if meets_accuracy_threshold(manifest, one)]
    fitting = [one for one in others if saturation_refusal(one) is None]
    if manifest.choose == "build" or not fitting or manifest.serving in fitting:
        return manifest.chosen
    return min(fitting, key=lambda one: one.latency_ms or float("inf")).precision
