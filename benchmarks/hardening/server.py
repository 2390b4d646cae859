"""Attacks on a server in a container of 1 GB, beside honest clients: it is never killed, and they are answered.

An attack runs in a process of its own until it is ended, and comes from another address than the honest clients, who
send photographs and tensors over HTTP and gRPC, some seventy a second; their latencies under an attack are compared
with those before it. The model is the null engine's, 224 x 224.
"""

import http.client
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from statistics import quantiles

import grpc
import numpy as np
from docker.models.containers import Container
from PIL import Image

from benchmarks.hardening import image_attacks, socket_attacks
from benchmarks.hardening.address import Address, Attack, outward_address
from benchmarks.rows import Row, guarded_rows, print_rows, row
from benchmarks.serving.clients.infer_message import infer_request
from deploy.containers.publishing import PublishedEndpoint
from deploy.containers.readiness import wait_until_ready
from deploy.docker.engine import connect
from deploy.docker.sandbox import sandbox_settings
from deploy.images.build import build_image
from tests.bundles import null_bundle
from tests.deploy.runtime.decoding.files import encode
from tests.journeys.conftest import lend_wheelhouse
from tests.names import own_name
from toolchain.cli.console import log_to_stderr
from toolchain.records.tensors import Preprocessing

ATTACKS: dict[str, Attack] = image_attacks.ATTACKS | socket_attacks.ATTACKS
QUICK = bool(os.environ.get("QUICK"))
BEFORE_S, ATTACK_S = (4.0, 5.0) if QUICK else (15.0, 60.0)
MEMORY_BYTES = 1 << 30
CLIENTS, PAUSE_S, TIMEOUT_S = 2, 0.04, 10.0
ANSWERED, P99_TIMES, MEMORY_SHARE = 95.0, 5.0, 80.0
INFER = "/v2/models/null/infer"


class HonestClients:
    """latencies_s: of answered requests; failed: of the others, their status or error."""

    def __init__(self, address: Address) -> None:
        self.latencies_s: list[float] = []
        self.failed: list[str] = []
        self._address, self._until = address, 0.0
        photo = encode(Image.effect_noise((500, 375), 30).convert("RGB"), "JPEG")
        shape = (1, 224, 224, 3)
        tensor = np.zeros(shape, np.uint8).tobytes()
        self._message = infer_request("null", "image", shape, "logits", tensor)
        self._requests = ((photo, {"Content-Type": "image/jpeg"}), (tensor, {"Inference-Header-Content-Length": "0"}))

    def run(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        threads = [threading.Thread(target=self._send) for _ in range(CLIENTS)]
        threads.append(threading.Thread(target=self._call))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _send(self) -> None:
        connection = http.client.HTTPConnection(self._address.host, self._address.http_port, timeout=TIMEOUT_S)
        number = 0
        while time.monotonic() < self._until:
            number += 1
            body, headers = self._requests[number % 2]
            began = time.perf_counter()
            try:
                connection.request("POST", INFER, body, headers)
                reply = connection.getresponse()
                reply.read()
                if reply.status == http.HTTPStatus.OK:
                    self.latencies_s.append(time.perf_counter() - began)
                else:
                    self.failed.append(str(reply.status))
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(type(error).__name__)
                connection.close()
            time.sleep(PAUSE_S)

    def _call(self) -> None:
        """The same over gRPC."""
        with grpc.insecure_channel(f"{self._address.host}:{self._address.grpc_port}") as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            while time.monotonic() < self._until:
                began = time.perf_counter()
                try:
                    infer(self._message, timeout=TIMEOUT_S)
                    self.latencies_s.append(time.perf_counter() - began)
                except grpc.RpcError as error:
                    self.failed.append(str(error.code().name))
                time.sleep(PAUSE_S)

    @property
    def answered_percent(self) -> float:
        asked = len(self.latencies_s) + len(self.failed)
        return 100 * len(self.latencies_s) / asked if asked else 0.0

    @property
    def p99_s(self) -> float:
        return quantiles(self.latencies_s, n=100)[-1] if len(self.latencies_s) > 1 else TIMEOUT_S


def rows() -> Iterator[Row]:
    """Four of each attack."""
    with serving() as container:
        for name, attack in ATTACKS.items():
            yield from _attack_rows(name, attack, container)


def _attack_rows(name: str, attack: Attack, container: Container) -> Iterator[Row]:
    address = _address(container)  # a server that was killed has other ports afterwards
    before, under = HonestClients(address), HonestClients(address)
    before.run(BEFORE_S)
    attacker = multiprocessing.get_context("spawn").Process(target=attack, args=(_inside(container),), daemon=True)
    attacker.start()
    under.run(ATTACK_S)
    attacker.terminate()
    attacker.join()
    container.reload()
    killed = container.status != "running" or container.attrs["State"]["OOMKilled"]
    peak = MEMORY_BYTES if killed else peak_bytes(container)
    if container.status != "running":
        container.start()
        container.reload()
        wait_until_ready(f"http://127.0.0.1:{_address(container).http_port}", 60, lambda: None)
    note = f"{ATTACK_S:.0f} s; p99 {before.p99_s * 1e3:.0f} -> {under.p99_s * 1e3:.0f} ms"
    failed = f"; not answered: {', '.join(sorted(set(under.failed)))}" if under.failed else ""
    yield row(f"{name}: the server was killed", float(killed), "<=", 0, "times", note + failed)
    yield row(f"{name}: honest requests answered", under.answered_percent, ">=", ANSWERED, "%")
    yield row(f"{name}: their p99 beside that before", under.p99_s / before.p99_s, "<=", P99_TIMES, "times")
    yield row(f"{name}: memory of the limit", 100 * peak / MEMORY_BYTES, "<=", MEMORY_SHARE, "%")


def peak_bytes(container: Container) -> int:
    """The most that its only process has held since it started."""
    status = Path("/proc", str(container.attrs["State"]["Pid"]), "status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def serving() -> Iterator[Container]:
    """A ready server of 1 GB."""
    before, name = os.environ.get("TOOLCHAIN_HOME"), own_name("edge-bench-attacked")
    with closing(connect()) as client, tempfile.TemporaryDirectory() as at:
        home = Path(at) / "home"
        os.environ["TOOLCHAIN_HOME"] = str(home)
        lend_wheelhouse(home)
        container: Container | None = None
        try:
            made = null_bundle(Path(at) / "b", 2.0, preprocessing=Preprocessing(224, 224, resize=256))
            tag = build_image(made, f"{name}:1").tag
            ports = PublishedEndpoint(0, 0).ports
            environment = {"CERTIFY": "off"}
            container = client.containers.create(
                tag,
                name=name,
                ports=ports,  # type: ignore[arg-type]  # its stub knows no list of addresses
                environment=environment,
                **sandbox_settings(MEMORY_BYTES),
            )
            container.start()
            container.reload()
            wait_until_ready(f"http://127.0.0.1:{_address(container).http_port}", 60, lambda: None)
            yield container
        finally:
            if container is not None:
                container.remove(force=True)
            with suppress(Exception):
                client.images.remove(f"{name}:1", force=True)
            os.environ.pop("TOOLCHAIN_HOME")
            os.environ.update({"TOOLCHAIN_HOME": before} if before is not None else {})


def _address(container: Container) -> Address:
    """For honest clients: the published ports."""
    ports = container.attrs["NetworkSettings"]["Ports"]
    return Address("127.0.0.1", int(ports["8080/tcp"][0]["HostPort"]), int(ports["8081/tcp"][0]["HostPort"]))


def _inside(container: Container) -> Address:
    """For an attack: the container's own address, by which the server sees where the connections come from."""
    networks = container.attrs["NetworkSettings"]["Networks"].values()
    return Address(next(network["IPAddress"] for network in networks), 8080, 8081, outward_address())


if __name__ == "__main__":
    log_to_stderr()
    print_rows(guarded_rows("attacks on a server", rows))
