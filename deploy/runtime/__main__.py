"""The container's command line: serve | bench | certify | describe | duet. Each verb imports its room inside itself.

Exit codes: 0 fine, 1 a check failed or this device cannot run the bundle, 2 the command line, 143 SIGTERM before
`serve` could drain. Errors are one line on stderr; bench, certify and describe print one JSON document as the last line
of stdout.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolchain.errors import DeviceError, ToolchainError, UsageError

if TYPE_CHECKING:
    from deploy.runtime.admission import Terms
    from toolchain.records.bundle import Bundle

BEGAN = time.perf_counter()
HELD_BYTES = 512 << 20
SERVE = (  # flag, environment variable, default, type, help
    ("--host", "HOST", "0.0.0.0", str, "address to listen on"),
    ("--port", "PORT", 8080, int, "port to listen on; 0: any free one, told in the log"),
    ("--log-level", "LOG_LEVEL", "info", str, "debug (logs every request), info, warning or error"),
    ("--queue", "QUEUE", 64, int, "requests that may wait or run; beyond it 503 at once"),
    ("--max-batch", "MAX_BATCH", 256, int, "pictures in one request"),
    ("--timeout", "TIMEOUT_S", 10.0, float, "seconds until the engine must have begun on a request; then 504"),
    ("--grace", "GRACE_S", 10.0, float, "seconds to finish what is in flight after SIGTERM"),
    ("--max-body", "MAX_BODY_BYTES", 64 << 20, int, "bytes of a request's body; beyond it 413"),
    (
        "--max-held",
        "MAX_HELD_BYTES",
        None,
        int,
        "bytes of all bodies; default 512 MB, 1/4 of a memory limit",
    ),
    ("--sender-timeout", "SENDER_TIMEOUT_S", 10.0, float, "seconds for a head (a body: on top of 64 kB/s); then 408"),
    ("--connections", "CONNECTIONS", 512, int, "open connections; beyond it 503"),
    ("--certify", "CERTIFY", "first", str, "certificate: always, first (kept on the volume) or off"),
    ("--cache", "CACHE_DIR", "", str, "writable folder for what the engine compiles; empty: none"),
)


CERTIFY = (
    ("--state", "STATE_DIR", "/state", str, "folder on a volume: the device's key and its certificates"),
    ("--key", "CERTIFICATE_KEY", "", str, "file with the key to sign with; empty: one made in the state folder"),
    ("--certify-seconds", "CERTIFY_SECONDS", 1.0, float, "length of each of LoadGen's scenarios"),
    ("--rate", "RATE", None, float, "pictures a second in the Server scenario; default: half of Offline's"),
)


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are ours: one line, exit 2."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see: {self.prog} --help")


def _environment(name: str, default: Any, kind: Callable[[str], Any]) -> Any:
    text = os.environ.get(name, "")
    try:
        return kind(text) if text else default
    except ValueError as error:
        raise UsageError(f"{name}={text!r} in the environment: expected {kind.__name__}") from error


def parser() -> argparse.ArgumentParser:
    """Every verb and flag; defaults come from the environment, which a container is configured by."""
    top = Parser(prog="python -m deploy.runtime", description=__doc__.splitlines()[0] if __doc__ else None)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="serve|bench|certify|describe|duet")
    for verb, words in {
        "serve": "answer requests over HTTP (Open Inference Protocol v2)",
        "bench": "measure this device with MLPerf LoadGen; prints a report",
        "certify": "choose, check and measure on this device; prints a signed certificate",
        "describe": "print the manifest and this device's fingerprint",
        "duet": "measure slices of latencies, as asked for on stdin, a line of JSON each",
    }.items():
        command = verbs.add_parser(verb, help=words, description=words)
        command.add_argument(
            "--bundle",
            type=Path,
            default=_environment("BUNDLE", Path("/bundle"), Path),
            help="folder; $BUNDLE, /bundle",
        )
        if verb != "describe":
            _add(command, "--threads", "THREADS", None, int, "threads of the engine; default: what the quota allows")
        if verb in ("bench", "certify", "describe"):
            command.add_argument("--out", type=Path, help="write the JSON document here too")
        if verb in ("bench", "duet"):
            _add(command, *CERTIFY[0])
        if verb == "bench":
            _add(command, "--seconds", "SECONDS", 10.0, float, "length of each scenario")
            _add(command, "--scenarios", "SCENARIOS", "SingleStream,Offline", str, "MLPerf's, with commas, or all")
            _add(command, "--precision", "PRECISION", "", str, "candidate; empty: what this device serves")
            _add(command, *CERTIFY[-1])
        for how in CERTIFY if verb in ("serve", "certify") else ():
            _add(command, *how)
        for flag in SERVE if verb == "serve" else ():
            _add(command, *flag)
    return top


def _add(command: argparse.ArgumentParser, flag: str, variable: str, default: Any, kind: Any, words: str) -> None:
    shown = "" if default in (None, "") else f", default {default}"
    chosen = _environment(variable, default, kind)
    command.add_argument(flag, type=kind, default=chosen, help=f"{words} (${variable}{shown})")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def document(record: object, out: Path | None) -> None:
    """One JSON document: the last line of stdout, and a file where asked for."""
    import msgspec

    from toolchain.records.files import encoded, write_whole

    if out is not None:
        try:
            write_whole(out, encoded(record))
        except OSError as error:
            raise UsageError(f"--out {out}: cannot be written ({error.strerror})") from error
    print(msgspec.json.encode(record).decode(), flush=True)


def engine_threads(asked: int | None) -> int:
    """What was asked for, else what the cgroup's quota allows."""
    from deploy.runtime.probe import threads

    if asked is not None and asked < 1:
        raise UsageError(f"--threads {asked}: expected 1 or more")
    return asked or threads()


def _check_numbers(options: argparse.Namespace) -> None:
    from deploy.runtime.cgroup import memory_limit_bytes

    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port {options.port}: expected 0 to 65535")
    if options.max_held is None:
        options.max_held = max(options.max_body, min(HELD_BYTES, (memory_limit_bytes() or 4 * HELD_BYTES) // 4))
    for name in ("queue", "max_batch", "timeout", "sender_timeout", "max_body", "max_held", "connections"):
        if not 0 < getattr(options, name) < 1 << 40:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(options, name)}: expected more than 0")
    if not 0 <= options.grace < 1 << 40:
        raise UsageError(f"--grace {options.grace}: expected seconds, 0 or more")


def _serve(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.limits import Limits
    from deploy.runtime.logs import LEVELS, Log
    from deploy.runtime.probe import missing_needs
    from deploy.runtime.serve import Options, serve

    if options.log_level not in LEVELS:
        raise UsageError(f"--log-level {options.log_level}: expected {', '.join(LEVELS)}")
    _check_numbers(options)
    missing = missing_needs(bundle.manifest.needs)
    if missing:
        raise DeviceError(missing)
    limits = Limits(
        body_bytes=options.max_body,
        held_bytes=options.max_held,
        sender_s=options.sender_timeout,
        connections=options.connections,
    )
    settings = Options(
        host=options.host,
        port=options.port,
        threads=engine_threads(options.threads),
        queue=options.queue,
        max_batch=options.max_batch,
        timeout_s=options.timeout,
        grace_s=options.grace,
        limits=limits,
        cache=Path(options.cache) if options.cache else None,
        certify=_terms(options, options.certify),
    )
    log = Log(options.log_level)
    log.write("info", "start", model=bundle.manifest.name, bundle=bundle.digest, threads=settings.threads)
    return 0 if serve(bundle, settings, log, BEGAN) else 1


def _terms(options: argparse.Namespace, policy: str) -> "Terms":
    from deploy.runtime.admission import POLICIES, Terms

    known = [one for one in POLICIES if one == policy]
    if not known:
        raise UsageError(f"--certify {policy}: expected {', '.join(POLICIES)}")
    if not 0 < options.certify_seconds <= 600:
        raise UsageError(f"--certify-seconds {options.certify_seconds}: expected more than 0, at most 600")
    _check_rate(options)
    key = Path(options.key) if options.key else None
    return Terms(known[0], Path(options.state), key, options.certify_seconds, options.rate)


def _check_rate(options: argparse.Namespace) -> None:
    if options.rate is not None and not 0 < options.rate < 1e7:
        raise UsageError(f"--rate {options.rate}: expected pictures a second, more than 0")


def _bench(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.bench import checked_scenarios, run_bench
    from deploy.runtime.state import chosen_here

    _check_rate(options)
    threads, scenarios = engine_threads(options.threads), checked_scenarios(options.scenarios)
    held = [one.precision for one in bundle.manifest.candidates]
    precision = options.precision or chosen_here(bundle, threads, Path(options.state))
    if precision not in held:
        raise UsageError(f"--precision {precision}: no such candidate in this bundle; it has: {', '.join(held)}")
    report = run_bench(bundle, threads, options.seconds, say, precision, scenarios, options.rate)
    document(report, options.out)
    return 0


def _certify(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.admission import certified

    certificate = certified(bundle, engine_threads(options.threads), _terms(options, "always"), say, BEGAN)
    for check in certificate.checks:
        say(f"{'passed' if check.passed else 'FAILED'}: {check.name}: {check.found}; expected {check.expected}")
    document(certificate, options.out)
    return 0 if certificate.passed else 1


def _describe(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.probe import fingerprint, missing_needs

    record = {
        "bundle": bundle.digest,
        "manifest": bundle.manifest,
        "device": fingerprint(),
        "missing": missing_needs(bundle.manifest.needs),
    }
    document(record, options.out)
    return 0


def _duet(options: argparse.Namespace, bundle: "Bundle") -> int:
    from deploy.runtime.duet import run_duet

    run_duet(bundle, engine_threads(options.threads), sys.stdin, sys.stdout, Path(options.state))
    return 0


VERBS = {"serve": _serve, "bench": _bench, "certify": _certify, "describe": _describe, "duet": _duet}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a verb; the exit code."""
    try:
        options = parser().parse_args(argv)
        from toolchain.records.bundle import open_bundle

        return VERBS[options.verb](options, open_bundle(options.bundle))
    except ToolchainError as error:
        print(f"deploy.runtime: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        print("deploy.runtime: interrupted", file=sys.stderr, flush=True)
        return 130


def _terminated(number: int, frame: object) -> None:  # noqa: ARG001
    """The kernel ignores SIGTERM for a container's first process unless that handles it itself: before `serve` drains,
    and for the other verbs always, the answer is to end at once."""
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(main())
