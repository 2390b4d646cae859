"""A certificate as tables for a person."""

from collections.abc import Iterator

from toolchain.records.certificate import NOT_OPENED, PERCENTS, Certificate
from toolchain.tables import table


def certificate_page(certificate: Certificate) -> str:
    """The device's checks, its choice among the candidates, and its measurements."""
    return "\n\n".join(_parts(certificate))


def _parts(certificate: Certificate) -> Iterator[str]:
    checks = [
        (check.name, "passed" if check.passed else "FAILED", check.found, check.expected)
        for check in certificate.checks
    ]
    yield table(checks, ("check", "", "found", "expected"))
    if certificate.candidates:
        tried = [
            (candidate.precision, candidate.latency_ms, candidate.accuracy, candidate.verdict)
            for candidate in certificate.candidates
        ]
        yield table(tried, {"on this device": "", "ms": ".3f", "held-out accuracy": ".2%", "": ""})
    if certificate.scenarios:
        rows = [
            (
                scenario.scenario,
                scenario.queries,
                *scenario.percentiles_ms,
                scenario.throughput_per_s,
                validity_cell(scenario.valid, scenario.note),
            )
            for scenario in certificate.scenarios
        ]
        percentiles = {f"p{percent:g}, ms": ".3f" for percent in PERCENTS}
        yield table(rows, {"LoadGen": "", "queries": "d", **percentiles, "images/s": ",.0f", "": ""})
    yield "; ".join(_facts(certificate))


def validity_cell(valid: bool, note: str) -> str:
    """What LoadGen says of a run; records of earlier releases may lack the reason."""
    return "valid" if valid else f"not valid: {note or 'LoadGen gives no reason'}"


def _facts(certificate: Certificate) -> Iterator[str]:
    if certificate.passed:
        yield f"serves {certificate.precision}, chosen by the {certificate.chosen_by}"
    else:
        failed = ", ".join(check.name for check in certificate.checks if not check.passed)
        yield f"does not serve: {failed} failed for {certificate.precision}"
    if certificate.accuracy is not None:
        yield _accuracy(certificate)
    elif certificate.engine != NOT_OPENED:
        yield "accuracy not known: the bundle has no labelled images, so only numerics were checked"
    if certificate.peak_memory_bytes:
        yield f"peak memory {certificate.peak_memory_bytes / 1e6:,.0f} MB"
    if certificate.cold_start_s is not None:
        yield f"first response {certificate.cold_start_s:.2f} s after the start"
    if certificate.joules_per_picture is not None:
        yield f"{1000 * certificate.joules_per_picture:.3g} mJ per image ({certificate.energy})"
    elif certificate.energy:
        yield f"energy {certificate.energy}"


def _accuracy(certificate: Certificate) -> str:
    precision = certificate.mean_average_precision
    ranked = "" if precision is None else f", mAP {precision:.2%}"
    return f"{certificate.measure} {certificate.accuracy:.2%}{ranked} of {certificate.images:,} held-out images"
