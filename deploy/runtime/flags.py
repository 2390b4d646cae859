"""The flags of the container's verbs, and the environment that they take their defaults from. Imports nothing of ours
but errors: a container's first milliseconds are spent here.
"""

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolchain.errors import UsageError

SERVE = (  # flag, environment variable, default, type, help
    ("--host", "HOST", "0.0.0.0", str, "address to listen on"),
    ("--port", "PORT", 8080, int, "port to listen on; 0: any free one, told in the log"),
    ("--log-level", "LOG_LEVEL", "info", str, "debug (logs every request), info, warning or error"),
    ("--queue", "QUEUE", 64, int, "requests that may wait or run; beyond it 503 at once"),
    ("--max-batch", "MAX_BATCH", 256, int, "pictures in one request"),
    (
        "--max-queue-delay-us",
        "MAX_QUEUE_DELAY_US",
        0,
        int,
        "microseconds that one request among others may wait for more to be answered together",
    ),
    (
        "--latency-goal-ms",
        "LATENCY_GOAL_MS",
        None,
        float,
        "no request is taken that would wait longer (503 at once); default: only --queue bounds the wait",
    ),
    (
        "--shared-memory",
        "SHARED_MEMORY",
        "local",
        str,
        "tensors in system shared memory: local (clients on this host), on or off",
    ),
    ("--grpc-port", "GRPC_PORT", None, int, "port for gRPC, 0: any free one, told in the log; default: none"),
    ("--unix-socket", "UNIX_SOCKET", "", str, "path to listen on beside the port; empty: none"),
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
    ("--door", "DOOR_DIR", "", str, "folder of the door that this server may stand behind; empty: none"),
    ("--name", "CONTAINER_NAME", "", str, "this container's name, by which the door is told who may open"),
    ("--cache", "CACHE_DIR", "", str, "writable folder for what the engine compiles; empty: none"),
    ("--tls-cert", "TLS_CERT", "", str, "file with the certificate's chain in PEM; empty: no TLS"),
    ("--tls-key", "TLS_KEY", "", str, "file with the certificate's key in PEM"),
    (
        "--tls-client-ca",
        "TLS_CLIENT_CA",
        "",
        str,
        "file with the authorities that sign clients' certificates; without one only health is answered",
    ),
    ("--token-file", "TOKEN_FILE", "", str, "file with bearer tokens, one a line; without one only health is answered"),
    ("--admin-port", "ADMIN_PORT", None, int, "port for metrics and control, which are then only there; default: none"),
    ("--admin-host", "ADMIN_HOST", "0.0.0.0", str, "address of that port"),
)


DOOR = ("--host", "--port", "--door")
CERTIFY = (
    ("--state", "STATE_DIR", "/state", str, "folder on a volume: the device's key and its certificates"),
    ("--key", "CERTIFICATE_KEY", "", str, "file with the key to sign with; empty: one made in the state folder"),
    ("--certify-seconds", "CERTIFY_SECONDS", 1.0, float, "length of each of LoadGen's scenarios"),
    ("--rate", "RATE", None, float, "pictures a second in the Server scenario; default: half of Offline's"),
)


class UsageErrorParser(argparse.ArgumentParser):
    """argparse whose complaints are ours: one line, exit 2."""

    def error(self, message: str) -> Any:
        raise UsageError(f"{message}; see: {self.prog} --help")


def _default_from_env(name: str, default: Any, kind: Callable[[str], Any]) -> Any:
    text = os.environ.get(name, "")
    try:
        return kind(text) if text else default
    except ValueError as error:
        raise UsageError(f"{name}={text!r} in the environment: expected {kind.__name__}") from error


def make_parser() -> argparse.ArgumentParser:
    """Every verb and flag; defaults come from the environment, which a container is configured by."""
    top = UsageErrorParser(prog="python -m deploy.runtime", description="A bundle's container")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="serve|bench|certify|check|describe|duet|door")
    for verb, words in {
        "serve": "answer requests over HTTP (Open Inference Protocol v2)",
        "bench": "measure this device with MLPerf LoadGen; prints a report",
        "certify": "choose, check and measure on this device; prints a signed certificate",
        "check": "check what can be checked of the bundle on any machine; prints the checks, and what was not run",
        "door": "hold a listening socket for servers that change behind it",
        "describe": "print the manifest and this device's fingerprint",
        "duet": "measure slices of latencies, as asked for on stdin, a line of JSON each",
    }.items():
        command = verbs.add_parser(verb, help=words, description=words)
        command.add_argument(
            "--bundle",
            type=Path,
            default=_default_from_env("BUNDLE", Path("/bundle"), Path),
            help="folder; $BUNDLE, /bundle",
        )
        if verb != "describe":
            _add(command, "--threads", "THREADS", None, int, "threads of the engine; default: what the quota allows")
        if verb in ("bench", "certify", "check", "describe"):
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
        for flag in SERVE:
            if verb == "serve" or (verb == "door" and flag[0] in DOOR):
                _add(command, *flag)
    return top


def _add(command: argparse.ArgumentParser, flag: str, variable: str, default: Any, kind: Any, words: str) -> None:
    shown = "" if default in (None, "") else f", default {default}"
    chosen = _default_from_env(variable, default, kind)
    command.add_argument(flag, type=kind, default=chosen, help=f"{words} (${variable}{shown})")
