"""A certificate as tables for a person."""

from collections.abc import Iterator

from toolchain.records.certificate import PERCENTS, Certificate
from toolchain.tables import table


def certificate_page(found: Certificate) -> str:
    """What the device checked of itself, what it chose from, and how fast it was."""
    return "\n\n".join(_parts(found))


def _parts(found: Certificate) -> Iterator[str]:
    checks = [(one.name, "passed" if one.passed else "FAILED", one.found, one.expected) for one in found.checks]
    yield table(checks, ("check", "", "found", "expected"))
    if found.candidates:
        tried = [(one.precision, one.latency_ms, one.accuracy, one.verdict) for one in found.candidates]
        yield table(tried, {"on this device": "", "ms": ".3f", "held-out accuracy": ".2%", "": ""})
    if found.scenarios:
        rows = [
            (one.scenario, one.queries, *one.percentiles_ms, one.throughput_per_s, one.note or "valid")
            for one in found.scenarios
        ]
        percentiles = {f"p{percent:g}, ms": ".3f" for percent in PERCENTS}
        yield table(rows, {"LoadGen": "", "queries": "d", **percentiles, "pictures/s": ",.0f", "": ""})
    yield "; ".join(_facts(found))


def _facts(found: Certificate) -> Iterator[str]:
    yield f"serves {found.precision}, chosen by the {found.chosen_by}"
    if found.peak_memory_bytes:
        yield f"peak memory {found.peak_memory_bytes / 1e6:,.0f} MB"
    if found.cold_start_s is not None:
        yield f"first answers {found.cold_start_s:.2f} s after the start"
    if found.joules_per_picture is not None:
        yield f"{1000 * found.joules_per_picture:.3g} mJ a picture ({found.energy})"
    elif found.energy:
        yield f"energy {found.energy}"
