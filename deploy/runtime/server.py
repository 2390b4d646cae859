"""The server's life cycle: listen, load, check, serve, drain. It does not know what it answers.

It listens before the engine is loaded, so that health can be checked from the start.
"""

import asyncio
import gc
import signal
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.runtime.certification.startup import (
    CertificationOptions,
    CertifiedEngines,
    open_certified_engines,
    with_precision,
)
from deploy.runtime.device.energy import EnergyMeter, EnergyTotals
from deploy.runtime.engines import Settings, gpu_of
from deploy.runtime.handover.acceptor import Acceptor
from deploy.runtime.handover.socket_holder import BACKLOG
from deploy.runtime.http.access import AccessOptions, Secrets
from deploy.runtime.http.limits import Limits
from deploy.runtime.http.ports import Ports
from deploy.runtime.http.routes import Router
from deploy.runtime.inference.event_loop import DeferredPollingLoop
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.inference.health import Health
from deploy.runtime.inference.tracing import make_tracer
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.shared_memory import SharedMemoryPolicy, SharedRegions
from deploy.runtime.scheduling.memory_budget import MemoryBudget
from deploy.runtime.scheduling.quota_throttle import QuotaThrottle
from deploy.runtime.scheduling.service import SchedulingOptions, Service
from toolchain.records.bundle import Bundle

if TYPE_CHECKING:
    from deploy.runtime.grpc.server import GrpcServer

POLL_SECRETS_S = 60.0  # interval of checking the secrets' files; SIGHUP checks them at once
SETTLE_S = 0.2  # time for `not ready` to be seen, while requests on their way still arrive, before the ports close


class ServerOptions(msgspec.Struct, frozen=True):
    """See `python -m deploy.runtime serve --help`. quota: CPUs that the cgroup allows; None: no quota."""

    host: str
    port: int
    threads: int
    scheduling: SchedulingOptions
    timeout_s: float
    grace_s: float
    limits: Limits
    cache: Path | None = None
    certification: CertificationOptions = CertificationOptions()
    holder: Path | None = None
    container: str = ""
    shared_memory: SharedMemoryPolicy = "local"
    unix_socket: Path | None = None
    quota: float | None = None
    grpc_port: int | None = None
    access: AccessOptions = AccessOptions()


class RuntimeServer:
    """One run; `began` is on the clock of time.perf_counter."""

    def __init__(self, bundle: Bundle, options: ServerOptions, log: Log, began: float) -> None:
        self._bundle, self._options, self._log, self._began = bundle, options, log, began
        self._loop = asyncio.get_running_loop()
        self._health = Health(options.certification.policy)
        budget = MemoryBudget(options.limits.held_bytes, options.limits.client_bytes)
        self._handler = InferenceHandler(
            bundle, self._health, Metrics(), log, options.timeout_s, SharedRegions(), budget
        )
        self._router = Router(self._handler, options.scheduling, options.shared_memory, options.limits.body_bytes)
        self._secrets = Secrets(options.access, log)
        self._router.metric_sources.append(self._secrets.families)
        self._tracing = make_tracer(bundle.manifest, log, "https" if options.access.tls else "http")
        if self._tracing is not None:
            self._handler.on_traced = self._tracing.record_request
            self._router.metric_sources.append(self._tracing.families)
        self._ports = Ports(self._router, self._secrets, options.limits, log)
        self._stop = asyncio.Event()
        self._lost_device = ""

    async def run(self) -> bool:
        """Serve until SIGTERM or SIGINT; True if every request was answered and the device kept. DeviceError: no
        start."""
        self._loop.set_exception_handler(self._log_exception)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        await self._ports.open(self._options.host, self._options.port, self._options.access)
        if self._options.unix_socket is not None:
            await self._ports.open_unix(self._options.unix_socket)
        sweeping = asyncio.create_task(self._sweep())
        renewing = asyncio.create_task(self._poll_secrets())
        loading = asyncio.create_task(self._load())
        grpc = await self._listen_grpc()  # while the engine is loaded on another thread
        accepting = asyncio.create_task(self._run_acceptor())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()  # raises what kept the engine from loading
        await stopping
        accepting.cancel()  # connections queued there are for the next server
        answered = await self._drain(grpc)
        sweeping.cancel()
        renewing.cancel()
        if self._tracing is not None:
            self._tracing.close()
        return answered

    async def _poll_secrets(self) -> None:
        if not self._secrets:
            return
        self._loop.add_signal_handler(signal.SIGHUP, self._secrets.poll)
        while True:
            await asyncio.sleep(POLL_SECRETS_S)
            self._secrets.poll()

    async def _listen_grpc(self) -> "GrpcServer | None":
        options = self._options
        if options.grpc_port is None:
            return None
        from deploy.runtime.grpc.server import GrpcServer

        server = GrpcServer(
            self._handler,
            self._router.connections,
            options.scheduling,
            options.shared_memory,
            options.limits,
            self._secrets,
            options.access.tls,
        )
        port = await server.start(options.host, options.grpc_port)
        self._log.write("info", "listening for gRPC", host=options.host, grpc_port=port)
        return server

    async def _run_acceptor(self) -> None:
        options = self._options
        if options.holder is not None:
            await Acceptor(
                options.holder,
                options.container,
                lambda: self._health.ready,
                lambda listening: self._ports.accept_on(listening, BACKLOG),
                self._router.set_accepting,
                self._log,
            ).watch()

    async def _load(self) -> None:
        found = await asyncio.to_thread(self._open_engines)
        # from here on, metadata names the candidate that answers
        self._handler.bundle = with_precision(self._bundle, found.precision)
        pacer, soon = QuotaThrottle(self._options.quota), self._handler.call_soon
        service = Service(
            found.latency_engine,
            self._options.scheduling,
            found.throughput_engine,
            found.costs,
            pacer,
            self._on_device_lost_in_thread,
            soon,
        )
        self._handler.callbacks.defer_polling_while(service.is_full)
        gc.collect()
        gc.freeze()  # what is loaded now stays: each scan of it by the collector would take tens of ms
        self._health.record_checks(service, found.checks, found.certificate)
        facts = {"seconds": round(time.perf_counter() - self._began, 3), "precision": found.precision}
        if self._health.phase == "failed":
            self._log.write("error", "not ready", reason=self._health.reason, **facts)
        elif self._health.ready:
            facts |= {"requests_at_once": service.throughput_engine.requests, "batches": sorted(service.costs)}
            self._log.write("info", "ready", checks=len(found.checks), **facts)
        totals = await asyncio.to_thread(lambda: EnergyTotals(EnergyMeter(gpu_of(found.latency_engine))))
        self._router.metric_sources.append(totals.families)

    def _on_device_lost_in_thread(self, why: str) -> None:
        self._loop.call_soon_threadsafe(self._on_device_lost, why)

    def _on_device_lost(self, why: str) -> None:
        """Only a new process helps: stop in order, with an exit status that gets the container restarted."""
        if not self._stop.is_set():
            self._lost_device = why
            self._log.write("error", "lost the device", reason=why)
            self._stop.set()

    def _open_engines(self) -> CertifiedEngines:
        options = self._options
        settings = Settings(options.threads, "latency", options.cache)

        def say(text: str) -> None:
            self._log.write("info", "certificate", text=text)

        import deploy.runtime.http.prometheus  # noqa: F401  # here, so that the first scrape does not hold the event loop up

        return open_certified_engines(self._bundle, settings, options.certification, say, self._began)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._options.limits.sender_s / 4))
            now = self._loop.time()
            for connection in self._ports.connections:
                connection.sweep(now)

    async def _drain(self, grpc: "GrpcServer | None") -> bool:
        """Not ready first, then close the ports, then finish what is in flight; idle connections are closed at the end.
        Behind a socket holder they get time for one more request, whose reply closes the connection: the client then
        reconnects to the next server."""
        self._health.drain(self._lost_device)
        self._log.write("info", "draining", in_flight=self._handler.in_flight)
        limit = self._loop.time() + self._options.grace_s
        await asyncio.sleep(min(SETTLE_S, self._options.grace_s))
        self._ports.close()
        if grpc is not None:
            grpc.close()
        patience = limit - self._options.grace_s * (0.5 if self._options.holder else 1.0)
        while self._ports.connections and self._loop.time() < limit:
            for connection in self._ports.connections if self._loop.time() > patience else ():
                connection.close_if_idle()
            await asyncio.sleep(0.02)
        left = self._handler.in_flight
        self._log.write("warning" if left else "info", "stopped", unanswered=left)
        return not left and not self._lost_device

    def _log_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self._log.write("error", "unexpected", message=context.get("message"), error=repr(context.get("exception")))


def serve(bundle: Bundle, options: ServerOptions, log: Log, began: float) -> bool:
    """Serve `bundle` until SIGTERM, or until the device is lost; True if every request was answered."""

    # Pillow's warnings about clients' images: on stderr, in lines that are not JSON
    warnings.filterwarnings("ignore", module=r"PIL\.")

    async def run() -> bool:
        return await RuntimeServer(bundle, options, log, began).run()

    with asyncio.Runner(loop_factory=DeferredPollingLoop) as runner:
        return runner.run(run())
