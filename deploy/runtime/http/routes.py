"""Which URL is answered by what: the Open Inference Protocol v2, health, metrics. Knows no sockets."""

from collections.abc import Callable, Mapping
from urllib.parse import unquote

import msgspec

from deploy.runtime.device.cgroup import throttled_periods
from deploy.runtime.http import certificate as shown
from deploy.runtime.http import openapi
from deploy.runtime.http import shared_memory as regioncalls
from deploy.runtime.http.infer import RestTalk
from deploy.runtime.http.limits import Peer
from deploy.runtime.http.messages import Reply, Request, Send, error_reply
from deploy.runtime.http.page import page_reply
from deploy.runtime.inference.handler import Desk
from deploy.runtime.metrics import family, gauges_text, process_text, sample, served_text
from deploy.runtime.protocol import metadata
from deploy.runtime.protocol.shared_memory import Policy, allowed, why_not
from deploy.runtime.protocol.statistics import statistics
from deploy.runtime.scheduling.service import Terms
from toolchain.records.bundle import Bundle
from toolchain.records.storage import encode_record

PLAIN = "text/plain; version=0.0.4; charset=utf-8"
Get = Callable[[], Reply]


def json_reply(value: object, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(value))


class Endpoints:
    """The App of every connection: a table of paths, and the desk for inference."""

    def __init__(self, desk: Desk, terms: Terms, shared: Policy) -> None:
        self._desk, self._terms, self._shared = desk, terms, shared
        self._health = desk.health
        self.connections: set[Peer] = set()
        self.families: list[Callable[[], str]] = []  # what others tell in the metrics
        self.leaving = False  # another server has the door: who is connected is to come back to that one
        name, release = self._bundle.manifest.name, self._bundle.manifest.release
        self._model = f"/v2/models/{name}"
        bases = (self._model, f"{self._model}/versions/{release}")
        self._infer = {f"{base}/infer" for base in bases}
        self._gets: dict[str, tuple[str, Get]] = self._server_gets()
        for base in bases:
            self._gets |= self._model_gets(base)

    def _server_gets(self) -> dict[str, tuple[str, Get]]:
        return {
            "/": ("about", self._about),
            "/v2": ("server", lambda: json_reply(metadata.server())),
            "/v2/openapi.json": ("openapi", lambda: json_reply(openapi.document(self._bundle.manifest))),
            "/v2/health/live": ("live", lambda: json_reply({"live": True})),
            "/v2/health/ready": ("ready", self._ready),
            "/healthz": ("ready", self._ready),
            "/certificate": ("certificate", self._certificate),
            "/v2/models/stats": ("stats", self._stats),
            "/metrics": ("metrics", lambda: Reply(200, self.metrics_text().encode(), PLAIN)),
        }

    def _model_gets(self, base: str) -> dict[str, tuple[str, Get]]:
        return {
            base: ("model", lambda: json_reply(metadata.model(self._bundle.manifest))),
            f"{base}/ready": ("ready", self._ready),
            f"{base}/stats": ("stats", self._stats),
            f"{base}/config": ("config", lambda: json_reply(metadata.config(self._bundle.manifest, self._terms))),
        }

    @property
    def _bundle(self) -> Bundle:
        """As this device serves it, once that is known."""
        return self._desk.bundle

    @property
    def paths(self) -> set[str]:
        """What is answered, but for the page's files and the calls of shared memory."""
        return self._infer | set(self._gets)

    def stands(self, in_door: bool) -> None:
        """Whether new connections come to this server."""
        self.leaving = not in_door

    @property
    def draining(self) -> bool:
        return self._health.draining or self.leaving

    def answer(self, request: Request, send: Send) -> None:
        """Route a request; a path that is not known gets one more look with its percent signs undone."""
        path = request.path
        if path not in self._infer:  # most are
            path = path if len(path) == 1 else path.rstrip("/")
            if path not in self._infer and path not in self._gets:
                path = unquote(path)
        if path in self._infer:
            self._post(request, self._counted("infer", request, send))
        elif found := self._found(path, request.headers):
            endpoint, get = found
            send = self._counted(endpoint, request, send)
            allowed = request.method in ("GET", "HEAD")
            send(get() if allowed else self._not_allowed(request, "GET, HEAD"))
        elif path.startswith((regioncalls.PREFIX, regioncalls.CUDA)):
            self._counted("shared memory", request, send)(self._regions(request))
        else:
            self._counted("unknown", request, send)(error_reply(404, self._unknown(path)))

    def _found(self, path: str, headers: Mapping[bytes, bytes]) -> tuple[str, Get] | None:
        page = page_reply(path, headers)
        return self._gets.get(path) if page is None else ("page", lambda: page)

    def refused(self, status: int, reason: str) -> None:
        """A connection's request was refused before it had a path."""
        self._desk.metrics.rejections[reason] += 1
        self._desk.metrics.requests["refused", str(status)] += 1

    def no_handshake(self, why: str) -> None:
        self._desk.metrics.rejections["handshake"] += 1
        if self._desk.log.wants("debug"):
            self._desk.log.write("debug", "no handshake", reason=why)

    def _post(self, request: Request, send: Send) -> None:
        if request.method == "POST":
            self._desk.answer(RestTalk(self._desk, request, send, self._shared))
        else:
            send(self._not_allowed(request, "POST"))

    def _regions(self, request: Request) -> Reply:
        if allowed(self._shared, request.caller.is_local):
            return regioncalls.answered(self._desk.regions, request, request.path)
        return error_reply(403, why_not(self._shared))

    def _not_allowed(self, request: Request, allowed: str) -> Reply:
        return error_reply(405, f"{request.method} is not answered here; expected {allowed}", (("Allow", allowed),))

    def _counted(self, endpoint: str, request: Request, send: Send) -> Send:
        def count_and_send(reply: Reply) -> None:
            self._desk.metrics.requests[endpoint, str(reply.status)] += 1
            if self._desk.log.wants("debug"):
                self._desk.log.write("debug", "request", method=request.method, path=request.path, status=reply.status)
            send(reply)

        return count_and_send

    def _unknown(self, path: str) -> str:
        words = ""
        if path.startswith("/v2/models/"):
            name, _, rest = path.removeprefix("/v2/models/").partition("/")
            version = rest.removeprefix("versions/").partition("/")[0] if rest.startswith("versions/") else ""
            words = metadata.elsewhere(self._bundle.manifest, name, version)
        return words or f"nothing at {path[:80]}; GET / tells what is here"

    def _stats(self) -> Reply:
        return json_reply(statistics(self._bundle.manifest, self._desk.metrics))

    def _ready(self) -> Reply:
        health = self._health
        if health.ready:
            return json_reply({"name": self._bundle.manifest.name, "ready": True})
        return json_reply({"name": self._bundle.manifest.name, "ready": False, "error": health.reason}, 503)

    def _about(self) -> Reply:
        health = self._health
        now = {
            "engine": health.service.engine.version if health.service else "",
            "state": health.phase,
            "reason": health.reason,
            "certificate": shown.summary(health.certificate, health.policy),
        }
        value = msgspec.json.encode(metadata.about(self._bundle, now))
        return Reply(200, msgspec.json.format(value, indent=1) + b"\n", headers=(("Vary", "Accept"),))

    def _certificate(self) -> Reply:
        """As it was signed: `toolchain verify` reads it."""
        found = self._health.certificate
        if found is not None:
            return Reply(200, encode_record(found))
        why = "not made yet" if self._health.phase == "starting" else f"none: the policy is {self._health.policy}"
        return error_reply(404, f"certificate: {why}")

    def metrics_text(self) -> str:
        """All families, in Prometheus text."""
        manifest, service = self._bundle.manifest, self._health.service
        facts = {
            "model": manifest.name,
            "release": manifest.release,
            "bundle": self._bundle.digest,
            "precision": manifest.chosen,
            "backend": manifest.serving.backend,
            "engine": service.engine.version if service else "",
        }
        checks = (sample("edge_check_passed", int(check.passed), check=check.name) for check in self._health.checks)
        throttled = "edge_cpu_throttled_periods_total"
        return "".join(
            [
                served_text(self._desk.metrics),
                gauges_text(
                    {
                        "edge_ready": ("1 when every check passed here.", int(self._health.ready)),
                        "edge_queue_depth": ("Requests admitted, not yet inferred.", service.depth if service else 0),
                        "edge_requests_in_flight": ("Requests not yet answered.", self._desk.in_flight),
                        "edge_connections": ("Open connections.", len(self.connections)),
                    }
                ),
                family("edge_build_info", "gauge", "What serves here.", [sample("edge_build_info", 1, **facts)]),
                shown.metrics_text(self._health.certificate, self._health.policy),
                family("edge_check_passed", "gauge", "Checks of this device: 1 passed, 0 failed.", checks),
                family(throttled, "counter", "nr_throttled of the cgroup.", [sample(throttled, throttled_periods())]),
                process_text(),
                *(told() for told in self.families),
            ]
        )
