"""The flags of the container's commands, and the environment variables that set their defaults. Imports only the error
types of this project: a container spends its first milliseconds here.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolchain.errors import UsageError

SERVE = (  # flag, environment variable, default, type, help
    ("--host", "HOST", "0.0.0.0", str, "address to listen on"),
    ("--port", "PORT", 8080, int, "port to listen on; 0: any free one, printed in the log"),
    ("--log-level", "LOG_LEVEL", "info", str, "debug (logs every request), info, warning or error"),
    ("--queue", "QUEUE", 64, int, "requests that may wait or run at once; beyond that, 503 immediately"),
    ("--max-batch", "MAX_BATCH", 256, int, "images in one request"),
    (
        "--max-queue-delay-us",
        "MAX_QUEUE_DELAY_US",
        0,
        int,
        "microseconds that a concurrent request may wait for others to form a batch",
    ),
    (
        "--latency-goal-ms",
        "LATENCY_GOAL_MS",
        None,
        float,
        "reject requests that would wait longer than this (503 immediately); default: only --queue bounds the wait",
    ),
    (
        "--shared-memory",
        "SHARED_MEMORY",
        "local",
        str,
        "tensors in system shared memory: local (for clients on this host), on or off",
    ),
    ("--grpc-port", "GRPC_PORT", None, int, "port for gRPC; 0: any free one, printed in the log; default: none"),
    ("--unix-socket", "UNIX_SOCKET", "", str, "Unix socket to listen on in addition to the port; empty: none"),
    ("--timeout", "TIMEOUT_S", 10.0, float, "seconds within which the engine must start on a request; then 504"),
    ("--grace", "GRACE_S", 10.0, float, "seconds to finish requests in flight after SIGTERM"),
    (
        "--max-body",
        "MAX_BODY_BYTES",
        None,
        int,
        "bytes of one request body or gRPC message; beyond that, 413; default: 64 MB, or half of --max-held",
    ),
    (
        "--max-held",
        "MAX_HELD_BYTES",
        None,
        int,
        "bytes that requests may hold together (bodies and gRPC messages as they arrive, images while they are "
        "decoded), half of it for one address; then 503; default: 512 MB, or a quarter of the memory limit",
    ),
    (
        "--sender-timeout",
        "SENDER_TIMEOUT_S",
        10.0,
        float,
        "seconds to send a request head; a body must bring 64 kB/s in each such time; then 408",
    ),
    (
        "--connections",
        "CONNECTIONS",
        512,
        int,
        "open connections; beyond that, one without a request makes room, or 503",
    ),
    (
        "--connections-per-address",
        "CONNECTIONS_PER_ADDRESS",
        None,
        int,
        "open connections from one IPv4 address or IPv6 /64; 0: no limit, for a server behind a proxy, where all "
        "clients have the proxy's address; default: half of --connections",
    ),
    (
        "--certify",
        "CERTIFY",
        "first",
        str,
        "when to certify this device: always, first (then kept on the volume) or off",
    ),
    (
        "--door",
        "DOOR_DIR",
        "",
        str,
        "folder of the socket holder whose connections this server may accept; empty: none",
    ),
    (
        "--name",
        "CONTAINER_NAME",
        "",
        str,
        "this container's name, which the socket holder's folder names when it may accept",
    ),
    ("--cache", "CACHE_DIR", "", str, "writable folder for compiled models; empty: none"),
    ("--tls-cert", "TLS_CERT", "", str, "PEM file with the certificate chain; empty: no TLS"),
    ("--tls-key", "TLS_KEY", "", str, "PEM file with the certificate's private key"),
    (
        "--tls-client-ca",
        "TLS_CLIENT_CA",
        "",
        str,
        "PEM file with the authorities that sign client certificates; without one a client reaches only health",
    ),
    (
        "--token-file",
        "TOKEN_FILE",
        "",
        str,
        "file with bearer tokens, one per line; clients without one reach only the health endpoints",
    ),
    (
        "--admin-port",
        "ADMIN_PORT",
        None,
        int,
        "separate port for metrics and control, which the main port then refuses; default: none",
    ),
    ("--admin-host", "ADMIN_HOST", "0.0.0.0", str, "address of the admin port"),
)


DOOR = ("--host", "--port", "--door")
CERTIFY = (
    ("--state", "STATE_DIR", "/state", str, "folder on a volume for the device's key and its certificates"),
    ("--key", "CERTIFICATE_KEY", "", str, "file with the signing key; empty: one is created in the state folder"),
    ("--certify-seconds", "CERTIFY_SECONDS", 1.0, float, "seconds that each LoadGen scenario runs"),
    ("--rate", "RATE", None, float, "images per second in the Server scenario; default: half of the Offline rate"),
)


class UsageErrorParser(argparse.ArgumentParser):
    """argparse whose errors have this project's form: one line, exit status 2."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see: {self.prog} --help")


def _default_from_env(name: str, default: Any, kind: Callable[[str], Any]) -> Any:
    text = os.environ.get(name, "")
    try:
        return kind(text) if text else default
    except ValueError as error:
        raise UsageError(f"{name}={text!r} in the environment: expected {kind.__name__}") from error


def make_parser() -> argparse.ArgumentParser:
    """Every command and flag; defaults come from the environment, through which a container is configured."""
    top = UsageErrorParser(prog="python -m deploy.runtime", description="The commands of a bundle's container")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="serve|bench|certify|check|describe|duet|door")
    for verb, words in {
        "serve": "serve inference over HTTP and gRPC (Open Inference Protocol v2)",
        "bench": "measure this device with MLPerf LoadGen and print a report",
        "certify": "select a candidate, check and measure it on this device, and print a signed certificate",
        "check": "run every check that this machine allows, and print the checks and what was not run",
        "door": "hold a listening socket and hand it to the active server",
        "describe": "print the manifest and this device's fingerprint",
        "duet": "measure slices of latencies, one for each line of JSON on stdin",
    }.items():
        command = verbs.add_parser(verb, help=words, description=words)
        command.add_argument(
            "--bundle",
            type=Path,
            default=_default_from_env("BUNDLE", Path("/bundle"), Path),
            help="folder of the bundle ($BUNDLE, default /bundle)",
        )
        if verb != "describe":
            _add(command, "--threads", "THREADS", None, int, "engine threads; default: what the CPU quota allows")
        if verb in ("bench", "certify", "check", "describe"):
            command.add_argument("--out", type=Path, help="also write the JSON document to this file")
        if verb in ("bench", "duet"):
            _add(command, *CERTIFY[0])
        if verb == "bench":
            _add(command, "--seconds", "SECONDS", 10.0, float, "seconds that each scenario runs")
            _add(
                command,
                "--scenarios",
                "SCENARIOS",
                "SingleStream,Offline",
                str,
                "MLPerf scenarios, separated by commas, or all",
            )
            _add(
                command,
                "--precision",
                "PRECISION",
                "",
                str,
                "candidate to measure; empty: the one that this device serves",
            )
            _add(command, *CERTIFY[-1])
        for how in CERTIFY if verb in ("serve", "certify") else ():
            _add(command, *how)
        for flag in SERVE:
            if verb == "serve" or (verb == "door" and flag[0] in DOOR):
                _add(command, *flag)
    return top


def _add(command: argparse.ArgumentParser, flag: str, variable: str, default: Any, kind: Any, words: str) -> None:
    shown = "" if default in (None, "") else f", default {default}"
    chosen = _default_from_env(variable, default, kind)
    command.add_argument(flag, type=kind, default=chosen, help=f"{words} (${variable}{shown})")
