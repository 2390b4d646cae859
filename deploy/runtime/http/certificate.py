"""The certificate in summary: a few lines at `/`, and metric families."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from deploy.runtime.metrics import Family, gauge
from toolchain.records.certificate import PERCENTS, Certificate, short_key


def summary(certificate: Certificate | None, policy: str) -> dict[str, Any]:
    """The summary at `/`; the whole certificate is at /certificate."""
    if certificate is None:
        return {"policy": policy, "passed": None}
    failed = [check for check in certificate.checks if not check.passed]
    lines: dict[str, Any] = {
        "policy": policy,
        "passed": certificate.passed,
        "issued_at": certificate.issued_at,
        "precision": f"{certificate.precision}, chosen by the {certificate.chosen_by}",
        "accuracy": certificate.accuracy,
        "measure": certificate.measure,
        "key": short_key(certificate.key),
    }
    lines |= {f"{one.scenario}_p50_ms": one.percentiles_ms[0] for one in certificate.scenarios if one.queries > 1}
    lines |= {f"{one.scenario}_per_s": round(one.throughput_per_s, 1) for one in certificate.scenarios}
    return lines | {f"failed: {check.name}": f"{check.found}; expected {check.expected}" for check in failed}


def families(certificate: Certificate | None, policy: str) -> Iterator[Family]:
    """edge_certificate_*; with policy `off` only the policy."""
    if certificate is None:
        yield Family("edge_certificate_info", "gauge", "Policy: always, first or off.", [({"policy": policy}, 1)])
        return
    facts = {"policy": policy, "chosen_by": certificate.chosen_by, "key": short_key(certificate.key)}
    words = "Policy: always, first or off; who chose the precision: build or device."
    yield Family("edge_certificate_info", "gauge", words, [(facts, 1)])
    yield gauge("edge_certificate_passed", "1 when every check of the certificate passed.", certificate.passed)
    issued_s = datetime.fromisoformat(certificate.issued_at).timestamp()
    yield gauge("edge_certificate_issued_timestamp_seconds", "When it was issued, seconds since 1970.", issued_s)
    if (accuracy := certificate.accuracy) is not None:
        yield gauge(
            "edge_certificate_accuracy",
            "Accuracy on the held-out images here: top-1, or the F1 of their labels.",
            accuracy,
        )
    if (joules := certificate.joules_per_picture) is not None:
        yield gauge("edge_certificate_joules_per_picture", "Energy per image.", joules)
    latencies = [
        ({"scenario": scenario.scenario, "quantile": f"{percent / 100:g}"}, ms / 1000)
        for scenario in certificate.scenarios
        for percent, ms in zip(PERCENTS, scenario.percentiles_ms, strict=True)
        if ms is not None
    ]
    words = "Latency of a query at certification (MLPerf LoadGen)."
    yield Family("edge_certificate_latency_seconds", "gauge", words, latencies)
    rates = [({"scenario": scenario.scenario}, scenario.throughput_per_s) for scenario in certificate.scenarios]
    words = "Throughput at certification (MLPerf LoadGen)."
    yield Family("edge_certificate_pictures_per_second", "gauge", words, rates)
