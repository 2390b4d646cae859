"""The cost of TLS, client certificates and tokens per request, measured on null-engine servers in turn.

`python -m benchmarks.shipping.closed [rounds]`; needs the openssl command. One kept connection each. Prints the median
over rounds of REQUESTS requests of the latency that the client sees, and the mean CPU time of the server. Client and
servers share this machine's cores.
"""

import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.serving.cost import cpu_s
from deploy.containers.client import request_parts
from tests.bundles import null_bundle
from tests.deploy.runtime.security.authority import Authority
from tests.deploy.runtime.server import INFER, Running, answer, request, serving

REQUESTS = 300
PICTURES = {"0.2 kB": 1, "150 kB": 784}  # a batch of 8x8x3 images; 784 of them have the size of one 224x224x3 image
TOKEN = "a-token-of-ours-to-test-with"
KINDS = ("plain", "token", "TLS", "TLS, certificate, token")


def flags(kind: str, folder: Path, ours: Authority) -> tuple[object, ...]:
    issued, tokens = ours.issue("server"), folder / "tokens"
    tokens.write_text(TOKEN)
    tls = ("--tls-cert", issued.cert, "--tls-key", issued.key) if "TLS" in kind else ()
    client = ("--tls-client-ca", ours.root) if "certificate" in kind else ()
    return (*tls, *client, *(("--token-file", tokens) if "token" in kind else ()))


def connected(kind: str, server: Running, ours: Authority) -> socket.socket:
    plain = server.connect()
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if "TLS" not in kind:
        return plain
    shown = ours.issue("client") if "certificate" in kind else None
    return ours.trusting(shown).wrap_socket(plain, server_hostname="localhost")


def request_cost(server: Running, connection: socket.socket, sent: bytes) -> tuple[float, float]:
    """(latency, server CPU time) of a request, in microseconds."""
    connection.sendall(sent)
    assert answer(connection)[0] == 200
    began, used = time.perf_counter(), cpu_s(server.process.pid)
    for _ in range(REQUESTS):
        connection.sendall(sent)
        whole(connection)
    return (time.perf_counter() - began) / REQUESTS * 1e6, (cpu_s(server.process.pid) - used) / REQUESTS * 1e6


def whole(connection: socket.socket) -> None:
    """Read one complete reply."""
    received = connection.recv(1 << 16)
    while (at := received.find(b"\r\n\r\n")) < 0:
        received += connection.recv(1 << 16)
    size = int(received[: at + 4].lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    while len(received) < at + 4 + size:
        received += connection.recv(1 << 16)


def main(rounds: int) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ours, bundle = Authority(folder), null_bundle(folder / "null.bundle").folder
        servers = {
            kind: stack.enter_context(serving(bundle, "--max-batch", 1024, *flags(kind, folder, ours)))
            for kind in KINDS
        }
        connections = {kind: stack.enter_context(connected(kind, server, ours)) for kind, server in servers.items()}
        for size, images in PICTURES.items():
            head, payload = request_parts("image", "logits", np.zeros((images, 8, 8, 3), np.uint8))
            headers = {"Inference-Header-Content-Length": str(len(head))}
            latencies: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
            for _ in range(rounds):
                for kind in KINDS:
                    shown = {"Authorization": f"Bearer {TOKEN}"} if "token" in kind else {}
                    sent = request("POST", INFER, head + payload, **headers, **shown)
                    latencies[kind].append(request_cost(servers[kind], connections[kind], sent))
            for kind in KINDS:
                times, cpu = zip(*latencies[kind], strict=True)
                print(
                    f"{size:8}{kind:26}{statistics.median(times):7.0f} us"
                    f"{statistics.mean(cpu):7.0f} us of the server's CPU time"
                )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
