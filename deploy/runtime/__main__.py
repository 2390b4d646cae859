"""The container's commands: serve | bench | certify | check | describe | duet | door. Each imports what it needs.

Exit status: 0 success; 1 a check failed, the device cannot run the bundle (no CUDA driver, for example) or was lost;
2 usage error; 143 SIGTERM before `serve` could drain. `check` succeeds on a machine that cannot run the bundle, as long
as nothing that it could check is wrong. An error is one line on stderr; bench, certify, check and describe print one
JSON document as the last line of stdout. The flags are in flags.py.
"""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from deploy.runtime.flags import make_parser
from toolchain.errors import DeviceError, ToolchainError, UsageError

if TYPE_CHECKING:
    from deploy.runtime.certification.startup import CertificationOptions
    from toolchain.records.bundle import Bundle
    from toolchain.records.certificate import Check

BEGAN = time.perf_counter()
WordT = TypeVar("WordT", bound=str)
MAX_BODY_BYTES = 64 << 20


def log_line(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def print_document(record: object, out: Path | None) -> None:
    """Print one JSON document as the last line of stdout, and write it to `out` if given."""
    import msgspec

    from toolchain.records.storage import encode_record, write_atomically

    if out is not None:
        try:
            write_atomically(out, encode_record(record))
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written ({error.strerror})") from error
    print(msgspec.json.encode(record).decode(), flush=True)


def engine_threads(requested: int | None) -> int:
    """The requested number, else what the cgroup's quota allows."""
    from deploy.runtime.device.probe import default_threads

    if requested is not None and requested < 1:
        raise UsageError(f"--threads {requested}: expected 1 or more")
    return requested or default_threads()


def _check_numbers(options: argparse.Namespace) -> None:
    from deploy.runtime.device.cgroup import memory_limit_bytes
    from deploy.runtime.http.access import check_port
    from deploy.runtime.scheduling.memory_budget import default_budget_bytes

    check_port("--port", options.port)
    check_port("--grpc-port", options.grpc_port)
    if options.max_held is None:
        options.max_held = max(options.max_body or 0, default_budget_bytes(memory_limit_bytes()))
    if options.max_body is None:
        options.max_body = min(MAX_BODY_BYTES, options.max_held // 2)
    if options.connections_per_address is None:
        options.connections_per_address = max(1, options.connections // 2)
    if options.connections_per_address < 0:
        raise UsageError(f"--connections-per-address {options.connections_per_address}: expected 0 or more")
    for name in ("queue", "max_batch", "timeout", "sender_timeout", "max_body", "max_held", "connections"):
        if not 0 < getattr(options, name) < 1 << 40:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected more than 0")
    if not 0 <= options.max_queue_delay_us <= 10_000_000:
        raise UsageError(f"--max-queue-delay-us {options.max_queue_delay_us}: expected 0 to 10,000,000")
    if options.latency_goal_ms is not None and not 0 < options.latency_goal_ms < 1e6:
        raise UsageError(f"--latency-goal-ms {options.latency_goal_ms}: expected milliseconds, more than 0")
    if not 0 <= options.grace < 1 << 40:
        raise UsageError(f"--grace {options.grace}: expected seconds, 0 or more")


def _serve(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.certification.offered import refusal_here
    from deploy.runtime.device.cgroup import cpu_quota
    from deploy.runtime.device.probe import missing_needs
    from deploy.runtime.http.access import access_from_flags
    from deploy.runtime.http.limits import Limits
    from deploy.runtime.logs import LEVELS, Log
    from deploy.runtime.protocol.shared_memory import POLICIES
    from deploy.runtime.scheduling.service import SchedulingOptions
    from deploy.runtime.server import ServerOptions, serve

    level = _parse_choice("--log-level", options.log_level, LEVELS)
    shared = _parse_choice("--shared-memory", options.shared_memory, POLICIES)
    _check_numbers(options)
    missing = missing_needs(bundle.manifest.needs) or refusal_here(bundle.manifest)
    if missing:
        raise DeviceError(missing)
    limits = Limits(
        body_bytes=options.max_body,
        held_bytes=options.max_held,
        sender_s=options.sender_timeout,
        connections=options.connections,
        connections_per_address=options.connections_per_address,
    )
    settings = ServerOptions(
        host=options.host,
        port=options.port,
        threads=engine_threads(options.threads),
        scheduling=SchedulingOptions(
            options.queue, options.max_batch, options.max_queue_delay_us / 1e6, _goal_s(options)
        ),
        timeout_s=options.timeout,
        grace_s=options.grace,
        limits=limits,
        cache=Path(options.cache) if options.cache else None,
        certification=_certification_options(options, options.certify),
        holder=Path(options.door) if options.door else None,
        container=options.name,
        shared_memory=shared,
        unix_socket=Path(options.unix_socket) if options.unix_socket else None,
        quota=cpu_quota(),
        grpc_port=options.grpc_port,
        access=access_from_flags(options),
    )
    log = Log(level)
    log.write("info", "start", model=bundle.manifest.name, bundle=bundle.digest, threads=settings.threads)
    return 0 if serve(bundle, settings, log, BEGAN) else 1


def _certification_options(options: argparse.Namespace, policy: str) -> "CertificationOptions":
    from deploy.runtime.certification.startup import POLICIES, CertificationOptions

    known = _parse_choice("--certify", policy, POLICIES)
    if not 0 < options.certify_seconds <= 600:
        raise UsageError(f"--certify-seconds {options.certify_seconds}: expected more than 0, at most 600")
    _check_rate(options)
    key = Path(options.key) if options.key else None
    return CertificationOptions(
        known, Path(options.state), key, options.certify_seconds, options.rate, _goal_s(options)
    )


def _goal_s(options: argparse.Namespace) -> float | None:
    """Only `serve` has a latency goal."""
    goal_ms: float | None = getattr(options, "latency_goal_ms", None)
    return None if goal_ms is None else goal_ms / 1e3


def _parse_choice(flag: str, value: str, known: "Sequence[WordT]") -> "WordT":
    """`value` as one of the words that `flag` accepts; UsageError for any other."""
    for word in known:
        if word == value:
            return word
    raise UsageError(f"{flag} {value}: expected {', '.join(known)}")


def _check_rate(options: argparse.Namespace) -> None:
    if options.rate is not None and not 0 < options.rate < 1e7:
        raise UsageError(f"--rate {options.rate}: expected images per second, more than 0")


def _bench(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.certification.bench import parse_scenarios, run_bench
    from deploy.runtime.device.state import chosen_precision

    _check_rate(options)
    threads, scenarios = engine_threads(options.threads), parse_scenarios(options.scenarios)
    known = [candidate.precision for candidate in bundle.manifest.candidates]
    precision = options.precision or chosen_precision(bundle, threads, Path(options.state))
    if precision not in known:
        raise UsageError(f"--precision {precision}: no such candidate in this bundle; it has: {', '.join(known)}")
    report = run_bench(bundle, threads, options.seconds, log_line, precision, scenarios, options.rate)
    print_document(report, options.out)
    return 0


def _certify(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.certification.startup import make_certificate

    certificate = make_certificate(
        bundle, engine_threads(options.threads), _certification_options(options, "always"), log_line, BEGAN
    )
    _print_checks(certificate.checks)
    print_document(certificate, options.out)
    return 0 if certificate.passed else 1


def _check(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.certification.selfcheck import run_selfcheck

    found = run_selfcheck(bundle, engine_threads(options.threads))
    _print_checks(found.checks)
    if found.not_run:
        log_line(f"not run: the engine: {found.not_run}")
    print_document(found, options.out)
    return 0 if found.passed else 1


def _print_checks(checks: "Sequence[Check]") -> None:
    for check in checks:
        log_line(f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.found}; expected {check.expected}")


def _describe(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.device.probe import fingerprint, missing_needs

    record = {
        "bundle": bundle.digest,
        "manifest": bundle.manifest,
        "device": fingerprint(),
        "missing": missing_needs(bundle.manifest.needs),
    }
    print_document(record, options.out)
    return 0


def _run_interleaved(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.certification.interleaved import run_interleaved

    run_interleaved(bundle, engine_threads(options.threads), sys.stdin, sys.stdout, Path(options.state))
    return 0


def _hold_socket(options: argparse.Namespace, bundle: "Bundle") -> int:  # noqa: ARG001  # it needs no bundle
    from deploy.runtime.handover.socket_holder import run_socket_holder

    run_socket_holder(Path(options.door), options.host, options.port)
    return 0


VERBS = {
    "serve": _serve,
    "bench": _bench,
    "certify": _certify,
    "check": _check,
    "describe": _describe,
    "door": _hold_socket,
    "duet": _run_interleaved,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    try:
        options = make_parser().parse_args(argv)
        from toolchain.records.bundle import open_bundle

        return VERBS[options.verb](options, open_bundle(options.bundle))
    except ToolchainError as error:
        print(f"deploy.runtime: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("deploy.runtime: interrupted", file=sys.stderr, flush=True)
        return 130


def _on_sigterm(number: int, frame: object) -> None:  # noqa: ARG001  # signal's signature
    """End at once. The kernel ignores SIGTERM for a container's first process unless that process handles it itself;
    `serve` installs a handler of its own once it can drain."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _on_sigterm)
    sys.exit(main())
