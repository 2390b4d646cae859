"""The server's life: listen, load, check, serve, drain. What it answers is the other files' business.

It listens before the engine is loaded, so that health can be asked from the first moment.
"""

import asyncio
import gc
import os
import signal
import socket
import time
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from deploy.runtime.certification.admission import Admitted, Terms, admitted, serving
from deploy.runtime.device.energy import Meter, Totals
from deploy.runtime.engines import Settings, gpu_of
from deploy.runtime.handover.acceptor import Doorway
from deploy.runtime.handover.socket_holder import BACKLOG
from deploy.runtime.http.access import Access, Rules, Secrets
from deploy.runtime.http.limits import Limits, Peer
from deploy.runtime.http.listener import Entrance, admin_limits
from deploy.runtime.http.page import is_page
from deploy.runtime.http.routes import Endpoints
from deploy.runtime.inference.event_loop import PatientLoop
from deploy.runtime.inference.handler import Desk
from deploy.runtime.inference.health import Health
from deploy.runtime.inference.tracing import tracing
from deploy.runtime.logs import Log
from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol import shared_memory as sharedmemory
from deploy.runtime.scheduling import service
from deploy.runtime.scheduling.quota_pacer import Pacer
from deploy.runtime.security.reload import Renewed
from toolchain.errors import DeviceError
from toolchain.records.bundle import Bundle

if TYPE_CHECKING:
    from deploy.runtime.grpc.server import GrpcServer
    from deploy.runtime.security.tls import Served

RENEW_S = 60.0  # files of secrets are looked at so often; SIGHUP has them looked at now
SETTLE_S = 0.2  # unready is visible, and requests on their way still find us, before the door closes


class Options(msgspec.Struct, frozen=True):
    """See `python -m deploy.runtime serve --help`. quota: CPUs that the cgroup allows, None: all there are."""

    host: str
    port: int
    threads: int
    terms: service.Terms
    timeout_s: float
    grace_s: float
    limits: Limits
    cache: Path | None = None
    certify: Terms = Terms()
    door: Path | None = None
    name: str = ""
    shared: sharedmemory.Policy = "local"
    unix_socket: Path | None = None
    quota: float | None = None
    grpc_port: int | None = None
    access: Access = Access()


class Server:
    """One run; `began` is on the clock of time.perf_counter."""

    def __init__(self, bundle: Bundle, options: Options, log: Log, began: float) -> None:
        self._bundle, self._options, self._log, self._began = bundle, options, log, began
        self._loop = asyncio.get_running_loop()
        self._health = Health(options.certify.policy)
        self._desk = Desk(bundle, self._health, Metrics(), log, options.timeout_s, sharedmemory.Regions())
        self._app = Endpoints(self._desk, options.terms, options.shared)
        self._secrets = Secrets(options.access, log)
        self._app.families.append(self._secrets.metrics_text)
        self._tracing = tracing(bundle.manifest, log, "https" if options.access.tls else "http")
        if self._tracing is not None:
            self._desk.traced = self._tracing.request
            self._app.families.append(self._tracing.metrics_text)
        self._entrances: list[Entrance] = []
        self._stop = asyncio.Event()
        self._lost_device = ""

    async def run(self) -> bool:
        """Serve until told to stop; whether every request was answered and the device kept. DeviceError: no start."""
        self._loop.set_exception_handler(self._tell)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        doors = await self._listen()
        sweeping = asyncio.create_task(self._sweep())
        renewing = asyncio.create_task(self._renew())
        loading = asyncio.create_task(self._load())
        grpc = await self._listen_grpc()  # while the engine is loaded on another thread
        doorway = asyncio.create_task(self._watch_door())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({loading, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if loading.done():
            loading.result()  # raises what kept the engine from loading
        await stopping
        doorway.cancel()  # what is queued there is for the next server
        answered = await self._drain(doors, grpc)
        sweeping.cancel()
        renewing.cancel()
        if self._tracing is not None:
            self._tracing.close()
        return answered

    async def _listen(self) -> tuple[asyncio.Server, ...]:
        options, access = self._options, self._options.access
        if access.admin_port is None:
            main = await self._open(Rules(self._secrets, is_page), options.host, options.port, "port")
            return main, *await self._listen_unix()
        rules = Rules(self._secrets, is_page, "main"), Rules(self._secrets, is_page, "admin")
        main = await self._open(rules[0], options.host, options.port, "port")
        admin = await self._open(rules[1], access.admin_host, access.admin_port, "admin-port")
        rules[0].elsewhere, rules[1].elsewhere = port_of(admin), port_of(main)
        return main, admin, *await self._listen_unix()

    async def _open(self, rules: Rules, host: str, port: int, flag: str) -> asyncio.Server:
        entrance = self._entrance(rules, self._secrets.tls, flag == "admin-port")
        try:
            door = await self._loop.create_server(entrance.protocol, host, port, backlog=512)
        except OSError as error:  # asyncio words it at length; a name that is unknown has no number of the system's
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            variable = flag.upper().replace("-", "_")
            raise DeviceError(
                f"cannot listen on {host}:{port} ({reason}); choose another: --{flag} or {variable}"
            ) from error
        event = "listening" if flag == "port" else "listening for control"
        self._log.write("info", event, host=host, port=port_of(door), tls=self._secrets.tls is not None)
        return door

    def _entrance(self, rules: Rules, tls: "Renewed[Served] | None", is_admin: bool = False) -> Entrance:
        connections = set() if is_admin else self._app.connections
        limits = admin_limits(self._options.limits) if is_admin else self._options.limits
        made = Entrance(self._app, connections, rules, limits, tls, self._loop.time)
        self._entrances.append(made)
        return made

    @property
    def _connections(self) -> tuple[Peer, ...]:
        return tuple(one for entrance in self._entrances for one in entrance.connections)

    async def _renew(self) -> None:
        if not self._secrets:
            return
        self._loop.add_signal_handler(signal.SIGHUP, self._secrets.look)
        while True:
            await asyncio.sleep(RENEW_S)
            self._secrets.look()

    async def _listen_unix(self) -> tuple[asyncio.Server, ...]:
        """For clients on this host, without the network's stack, nor TLS: who may open the file may ask."""
        path = self._options.unix_socket
        if path is None:
            return ()
        entrance = self._entrance(Rules(self._secrets, is_page), None)
        try:
            if path.is_socket():
                path.unlink()  # of a server that was killed
            door = await self._loop.create_unix_server(entrance.protocol, path, backlog=512)
        except OSError as error:
            raise DeviceError(f"cannot listen on {path} ({error.strerror}); choose another: --unix-socket") from error
        self._log.write("info", "listening on a file", unix_socket=path)
        return (door,)

    async def _listen_grpc(self) -> "GrpcServer | None":
        options = self._options
        if options.grpc_port is None:
            return None
        # its library tells of every flaw in strangers' HTTP/2 on stderr, in lines that are no JSON
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from deploy.runtime.grpc.server import GrpcServer  # a tenth of a second, only where it is asked for

        server = GrpcServer(
            self._desk, options.terms, options.shared, options.limits, self._secrets, options.access.tls
        )
        port = await server.start(options.host, options.grpc_port)
        self._log.write("info", "listening for gRPC", host=options.host, grpc_port=port)
        return server

    async def _watch_door(self) -> None:
        options = self._options
        if options.door is not None:
            door = Doorway(options.door, options.name, self._is_ready, self._answering, self._app.stands, self._log)
            await door.watch()

    def _is_ready(self) -> bool:
        return self._health.ready

    async def _answering(self, listening: socket.socket) -> asyncio.Server:
        # asyncio calls listen() again, which would make the queue that servers share as short as its own default
        main = self._entrances[0]
        return await self._loop.create_server(main.protocol, sock=listening, backlog=BACKLOG)

    async def _load(self) -> None:
        found = await asyncio.to_thread(self._admitted)
        # the service is made here: whoever asks from now on is told of the candidate that answers
        self._desk.bundle = serving(self._bundle, found.precision)
        pacer, soon = Pacer(self._options.quota), self._desk.soon
        one = service.Service(
            found.engine, self._options.terms, found.crowd, found.costs, pacer, self._lost_from_thread, soon
        )
        self._desk.landing.wait_while(one.full)
        gc.collect()
        gc.freeze()  # what was loaded stays: to look through it again and again for what is unused takes tens of ms
        self._health.judge(one, found.checks, found.certificate)
        facts = {"seconds": round(time.perf_counter() - self._began, 3), "precision": found.precision}
        if self._health.phase == "failed":
            self._log.write("error", "not ready", reason=self._health.reason, **facts)
        elif self._health.ready:
            facts |= {"requests_at_once": one.crowd.requests, "batches": sorted(one.costs)}
            self._log.write("info", "ready", checks=len(found.checks), **facts)
        totals = await asyncio.to_thread(lambda: Totals(Meter(gpu_of(found.engine))))
        self._app.families.append(totals.metrics_text)

    def _lost_from_thread(self, why: str) -> None:
        self._loop.call_soon_threadsafe(self._lost, why)

    def _lost(self, why: str) -> None:
        """Only a new process helps: end in order, and with an exit code that has it started again."""
        if not self._stop.is_set():
            self._lost_device = why
            self._log.write("error", "lost the device", reason=why)
            self._stop.set()

    def _admitted(self) -> Admitted:
        options = self._options
        settings = Settings(options.threads, "latency", options.cache)

        def say(text: str) -> None:
            self._log.write("info", "certificate", text=text)

        return admitted(self._bundle, settings, options.certify, say, self._began)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._options.limits.sender_s / 4))
            now = self._loop.time()
            for connection in self._connections:
                connection.sweep(now)

    async def _drain(self, doors: tuple[asyncio.Server, ...], grpc: "GrpcServer | None") -> bool:
        """Unready first, then the doors, then what is in flight; idle connections are closed at the end. Behind a door
        they get time to ask once more, and are told with the answer to come back, which leads them to the next."""
        self._health.drain(self._lost_device)
        self._log.write("info", "draining", in_flight=self._desk.in_flight)
        limit = self._loop.time() + self._options.grace_s
        await asyncio.sleep(min(SETTLE_S, self._options.grace_s))
        for door in doors:
            door.close()
        calls = None if grpc is None else asyncio.create_task(grpc.stop(max(0.0, limit - self._loop.time())))
        patience = limit - self._options.grace_s * (0.5 if self._options.door else 1.0)
        while self._connections and self._loop.time() < limit:
            for connection in self._connections if self._loop.time() > patience else ():
                connection.close_if_idle()
            await asyncio.sleep(0.02)
        if calls is not None:
            await calls
        left = self._desk.in_flight
        self._log.write("warning" if left else "info", "stopped", unanswered=left)
        return not left and not self._lost_device

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:  # noqa: ARG002
        error = context.get("exception")
        if isinstance(error, UnicodeDecodeError) and "grpc/_cython" in _raised_in(error):
            return  # a call's path: GrpcServer hears of it too, and begins again
        self._log.write("error", "unexpected", message=context.get("message"), error=repr(error))


def _raised_in(error: Exception) -> str:
    """The file."""
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].filename if frames else ""


def port_of(door: asyncio.Server) -> int:
    return int(door.sockets[0].getsockname()[1])


def serve(bundle: Bundle, options: Options, log: Log, began: float) -> bool:
    """Serve `bundle` until SIGTERM, or until the device is lost; whether every request was answered."""

    # Pillow's, of strangers' pictures: on stderr, in lines that are no JSON
    warnings.filterwarnings("ignore", module=r"PIL\.")

    async def run() -> bool:
        return await Server(bundle, options, log, began).run()

    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(run())
