"""A certificate for those who look: at `/` as a few lines, in the metrics as Prometheus text."""

from datetime import datetime
from typing import Any

from deploy.runtime.metrics import family, gauges_text, sample
from toolchain.records.certificate import PERCENTS, Certificate, short_key


def summary(certificate: Certificate | None, policy: str) -> dict[str, Any]:
    """What stands at `/`; the whole is at /certificate."""
    if certificate is None:
        return {"policy": policy, "passed": None}
    failed = [check for check in certificate.checks if not check.passed]
    shown: dict[str, Any] = {
        "policy": policy,
        "passed": certificate.passed,
        "issued_at": certificate.issued_at,
        "precision": f"{certificate.precision}, chosen by the {certificate.chosen_by}",
        "accuracy": certificate.accuracy,
        "key": short_key(certificate.key),
    }
    shown |= {f"{one.scenario}_p50_ms": one.percentiles_ms[0] for one in certificate.scenarios if one.queries > 1}
    shown |= {f"{one.scenario}_per_s": round(one.throughput_per_s, 1) for one in certificate.scenarios}
    return shown | {f"failed: {check.name}": f"{check.found}; expected {check.expected}" for check in failed}


def metrics_text(certificate: Certificate | None, policy: str) -> str:
    """edge_certificate_*; with policy `off` only the policy."""
    info = "edge_certificate_info"
    if certificate is None:
        return family(info, "gauge", "Policy: always, first or off.", [sample(info, 1, policy=policy)])
    facts = {"policy": policy, "chosen_by": certificate.chosen_by, "key": short_key(certificate.key)}
    latency, rate = "edge_certificate_latency_seconds", "edge_certificate_pictures_per_second"
    gauges = {
        "edge_certificate_passed": ("1 when every check of the certificate passed.", float(certificate.passed)),
        "edge_certificate_issued_timestamp_seconds": (
            "When it was issued, seconds since 1970.",
            datetime.fromisoformat(certificate.issued_at).timestamp(),
        ),
    }
    if certificate.accuracy is not None:
        gauges["edge_certificate_accuracy"] = ("Share of the held-out pictures right here.", certificate.accuracy)
    if certificate.joules_per_picture is not None:
        gauges["edge_certificate_joules_per_picture"] = ("Energy of a picture.", certificate.joules_per_picture)
    latencies = [
        sample(latency, ms / 1000, scenario=one.scenario, quantile=f"{percent / 100:g}")
        for one in certificate.scenarios
        for percent, ms in zip(PERCENTS, one.percentiles_ms, strict=True)
        if ms is not None
    ]
    rates = [sample(rate, one.throughput_per_s, scenario=one.scenario) for one in certificate.scenarios]
    return "".join(
        [
            family(
                info,
                "gauge",
                "Policy: always, first or off; whose choice the precision is.",
                [sample(info, 1, **facts)],
            ),
            gauges_text(gauges),
            family(latency, "gauge", "Latency of a query when certified (MLPerf LoadGen).", latencies),
            family(rate, "gauge", "Throughput when certified (MLPerf LoadGen).", rates),
        ]
    )
