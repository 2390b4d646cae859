"""URL -> handler: the Open Inference Protocol v2, health, certificate, metrics. Knows no sockets."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import unquote

import msgspec

from deploy.runtime.device.cgroup import throttled_periods
from deploy.runtime.http import certificate, openapi, shared_memory
from deploy.runtime.http.infer import HttpAdapter
from deploy.runtime.http.limits import ConnectionTable
from deploy.runtime.http.messages import HttpReply, HttpRequest, SendReply, error_reply
from deploy.runtime.http.page import page_reply
from deploy.runtime.inference.handler import InferenceHandler
from deploy.runtime.metrics import Family, HistogramFamily, gauge
from deploy.runtime.protocol import metadata, repository
from deploy.runtime.protocol.shared_memory import SharedMemoryPolicy, is_allowed, refusal_text
from deploy.runtime.protocol.statistics import statistics
from deploy.runtime.scheduling.service import SchedulingOptions
from toolchain.errors import RequestError
from toolchain.records.bundle import Bundle
from toolchain.records.storage import encode_record

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
MakeReply = Callable[[], HttpReply]
OTHER_SITES = (b"cross-site", b"same-site")  # what browsers say of a page that is not this server's


def json_reply(value: object, status: int = 200) -> HttpReply:
    return HttpReply(status, msgspec.json.encode(value))


class Router:
    """The App of every connection: a table of paths, and the InferenceHandler. max_bytes: of a body once unpacked."""

    def __init__(
        self, handler: InferenceHandler, options: SchedulingOptions, shared: SharedMemoryPolicy, max_bytes: int
    ) -> None:
        self._handler, self._options, self._shared, self._max_bytes = handler, options, shared, max_bytes
        self._health, self.budget = handler.health, handler.budget
        self.connections = ConnectionTable()
        self.metric_sources: list[Callable[[], Iterable[Family]]] = []  # beyond this file's own
        self.is_leaving = False  # another server accepts now: clients should reconnect, to that one
        name, release = self._bundle.manifest.name, self._bundle.manifest.release
        self._model = f"/v2/models/{name}"
        bases = (self._model, f"{self._model}/versions/{release}")
        self._infer = {f"{base}/infer" for base in bases}
        self._gets: dict[str, tuple[str, MakeReply]] = self._server_gets()
        for base in bases:
            self._gets |= self._model_gets(base)

    def _server_gets(self) -> dict[str, tuple[str, MakeReply]]:
        return {
            "/": ("about", self._about),
            "/v2": ("server", lambda: json_reply(metadata.server_metadata())),
            "/v2/openapi.json": ("openapi", lambda: json_reply(openapi.document(self._bundle.manifest))),
            "/v2/health/live": ("live", lambda: json_reply(metadata.Liveness(live=True))),
            "/v2/health/ready": ("ready", self._ready),
            "/healthz": ("ready", self._ready),
            "/certificate": ("certificate", self._certificate),
            "/v2/models/stats": ("stats", self._stats),
            "/metrics": ("metrics", self._metrics),
        }

    def _model_gets(self, base: str) -> dict[str, tuple[str, MakeReply]]:
        return {
            base: ("model", lambda: json_reply(metadata.model_metadata(self._bundle.manifest))),
            f"{base}/ready": ("ready", self._ready),
            f"{base}/stats": ("stats", self._stats),
            f"{base}/config": (
                "config",
                lambda: json_reply(metadata.model_config(self._bundle.manifest, self._options)),
            ),
        }

    @property
    def _bundle(self) -> Bundle:
        """As this device serves it, once the engine is loaded."""
        return self._handler.bundle

    @property
    def paths(self) -> set[str]:
        """The paths that are answered, except for the page's files and shared memory."""
        return self._infer | set(self._gets) | {repository.INDEX}

    def set_accepting(self, accepts: bool) -> None:
        """Whether this server accepts from the shared socket."""
        self.is_leaving = not accepts

    @property
    def draining(self) -> bool:
        return self._health.draining or self.is_leaving

    def answer(self, request: HttpRequest, send: SendReply) -> None:
        """Route a request; an unknown path is looked up once more with its percent escapes decoded."""
        path = request.path
        if request.headers.get(b"sec-fetch-site") in OTHER_SITES and request.method == "POST":
            send = self._count_reply("another site", request, send)
            send(error_reply(403, "another site's page asks here: open this server's own, or ask without a browser"))
            return
        if path not in self._infer:  # most are
            path = path if len(path) == 1 else path.rstrip("/")
            if path not in self._infer and path not in self._gets:
                path = unquote(path)
        if path in self._infer:
            self._post(request, self._count_reply("infer", request, send))
        elif found := self._find_get(path, request.headers):
            endpoint, get = found
            send = self._count_reply(endpoint, request, send)
            allowed = request.method in ("GET", "HEAD")
            send(get() if allowed else self._not_allowed(request, "GET, HEAD"))
        elif path.startswith((shared_memory.PREFIX, shared_memory.CUDA)):
            self._count_reply("shared memory", request, send)(self._regions(request))
        elif path.startswith(repository.PREFIX):
            self._count_reply("repository", request, send)(self._repository(request, path))
        elif repository.SETTINGS.fullmatch(path):
            self._count_reply("settings", request, send)(error_reply(400, repository.SETTINGS_TEXT))
        else:
            self._count_reply("unknown", request, send)(error_reply(404, self._unknown_path_text(path)))

    def _find_get(self, path: str, headers: Mapping[bytes, bytes]) -> tuple[str, MakeReply] | None:
        page = page_reply(path, headers)
        return self._gets.get(path) if page is None else ("page", lambda: page)

    def count_rejection(self, reason: str) -> None:
        """Count a connection that got no reply."""
        self._handler.metrics.rejections[reason] += 1

    def count_refusal(self, status: int, reason: str) -> None:
        """Count a request that a connection refused before it was routed."""
        self._handler.metrics.rejections[reason] += 1
        self._handler.metrics.requests["http", "refused", str(status)] += 1

    def count_failed_handshake(self, why: str) -> None:
        self._handler.metrics.rejections["handshake"] += 1
        if self._handler.log.is_enabled("debug"):
            self._handler.log.write("debug", "no handshake", reason=why)

    def _post(self, request: HttpRequest, send: SendReply) -> None:
        if request.method == "POST":
            self._handler.handle(HttpAdapter(self._handler, request, send, self._shared, self._max_bytes))
        else:
            send(self._not_allowed(request, "POST"))

    def _regions(self, request: HttpRequest) -> HttpReply:
        if is_allowed(self._shared, request.caller.is_local):
            return shared_memory.reply_to(self._handler.regions, request, request.path)
        return error_reply(403, refusal_text(self._shared))

    def _repository(self, request: HttpRequest, path: str) -> HttpReply:
        if not repository.is_known(path):
            return error_reply(404, self._unknown_path_text(path))
        if request.method != "POST":
            return self._not_allowed(request, "POST")
        try:
            if path == repository.INDEX:
                wanted, why = repository.parse_index_request(request.body), self._health.why_not_ready
                return json_reply(repository.model_index(self._bundle.manifest, why, wanted.ready))
            raise RequestError(repository.fixed_model_text(self._bundle.manifest))
        except RequestError as error:
            return error_reply(400, str(error))

    def _not_allowed(self, request: HttpRequest, allowed: str) -> HttpReply:
        return error_reply(405, f"{request.method} is not allowed here; expected {allowed}", (("Allow", allowed),))

    def _count_reply(self, endpoint: str, request: HttpRequest, send: SendReply) -> SendReply:
        def count_and_send(reply: HttpReply) -> None:
            self._handler.metrics.requests["http", endpoint, str(reply.status)] += 1
            if self._handler.log.is_enabled("debug"):
                self._handler.log.write(
                    "debug", "request", method=request.method, path=request.path, status=reply.status
                )
            send(reply)

        return count_and_send

    def _unknown_path_text(self, path: str) -> str:
        words = ""
        if path.startswith("/v2/models/"):
            name, _, rest = path.removeprefix("/v2/models/").partition("/")
            version = rest.removeprefix("versions/").partition("/")[0] if rest.startswith("versions/") else ""
            words = metadata.unknown_model_text(self._bundle.manifest, name, version)
        return words or f"nothing at {path[:80]}; GET / lists the endpoints"

    def _stats(self) -> HttpReply:
        return json_reply(statistics(self._bundle.manifest, self._handler.metrics))

    def _ready(self) -> HttpReply:
        health = self._health
        if health.ready:
            return json_reply(metadata.Readiness(self._bundle.manifest.name, ready=True))
        return json_reply(metadata.Readiness(self._bundle.manifest.name, ready=False, error=health.why_not_ready), 503)

    def _about(self) -> HttpReply:
        health = self._health
        engine = health.service.latency_engine.version if health.service else ""
        shown = certificate.summary(health.certificate, health.policy)
        value = msgspec.json.encode(metadata.server_summary(self._bundle, engine, health.phase, health.reason, shown))
        return HttpReply(200, msgspec.json.format(value, indent=1) + b"\n", headers=(("Vary", "Accept"),))

    def _certificate(self) -> HttpReply:
        """As it was signed: `toolchain certificate verify` reads it."""
        found = self._health.certificate
        if found is not None:
            return HttpReply(200, encode_record(found))
        why = "not made yet" if self._health.phase == "starting" else f"none: the policy is {self._health.policy}"
        return error_reply(404, f"certificate: {why}")

    def _metrics(self) -> HttpReply:
        from deploy.runtime.http.prometheus import metrics_text  # has been imported while the engine was loaded

        return HttpReply(200, metrics_text(self._families()), PLAIN)

    def _families(self) -> Iterator[Family | HistogramFamily]:
        manifest, service = self._bundle.manifest, self._health.service
        yield from self._handler.metrics.families()
        yield gauge("edge_ready", "1 when every check passed here.", self._health.ready)
        yield gauge("edge_queue_depth", "Requests admitted, not yet inferred.", service.depth if service else 0)
        yield gauge("edge_requests_in_flight", "Requests not yet answered.", self._handler.in_flight)
        yield gauge("edge_connections", "Open connections.", len(self.connections))
        yield gauge("edge_memory_reserved_bytes", "What requests hold of the memory budget.", self.budget.held_bytes)
        yield gauge("edge_memory_budget_bytes", "What all requests together may hold.", self.budget.total_bytes)
        build = {
            "model": manifest.name,
            "release": manifest.release,
            "bundle": self._bundle.digest,
            "precision": manifest.chosen,
            "backend": manifest.serving.backend,
            "engine": service.latency_engine.version if service else "",
        }
        yield Family("edge_build_info", "gauge", "The model, bundle and engine that this server runs.", [(build, 1)])
        yield from certificate.families(self._health.certificate, self._health.policy)
        checks = [({"check": check.name}, check.passed) for check in self._health.checks]
        yield Family("edge_check_passed", "gauge", "Checks of this device: 1 passed, 0 failed.", checks)
        throttled = "edge_cpu_throttled_periods_total"
        yield Family(throttled, "counter", "nr_throttled of the cgroup.", [({}, throttled_periods())])
        for families in self.metric_sources:
            yield from families()
