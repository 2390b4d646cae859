"""Is the server ready, and if not, why? Not ready until the golden samples pass on this device."""

from collections.abc import Callable
from typing import Literal

from deploy.runtime.scheduling.errors import Unavailable
from deploy.runtime.scheduling.service import Service
from toolchain.records.certificate import Certificate, Check

Phase = Literal["starting", "ready", "failed", "draining"]


class Health:
    """Changed on the event loop's thread only."""

    def __init__(self, policy: str = "off") -> None:
        self.policy = policy
        self.phase: Phase = "starting"
        self.stuck_reason: Callable[[], str] = str  # why not, although the phase is "ready"; "": none
        self.reason = "the engine is loading; this device then checks and measures it"
        self.checks: tuple[Check, ...] = ()
        self.service: Service | None = None
        self.certificate: Certificate | None = None

    @property
    def ready(self) -> bool:
        return self.phase == "ready" and not self.stuck_reason()

    @property
    def why_not_ready(self) -> str:
        return self.reason or self.stuck_reason()

    @property
    def draining(self) -> bool:
        return self.phase == "draining"

    def record_checks(
        self, service: Service, checks: tuple[Check, ...], certificate: Certificate | None = None
    ) -> None:
        """Ready when every check passed; a draining server stays draining."""
        self.service, self.checks, self.certificate = service, checks, certificate
        if self.draining:
            return
        failed = [f"check '{check.name}' failed: {check.found}, expected {check.expected}" for check in checks]
        failed = [words for words, check in zip(failed, checks, strict=True) if not check.passed]
        self.phase = "failed" if failed else "ready"
        self.reason = failed[0] if failed else ""

    def drain(self, why: str = "") -> None:
        self.phase, self.reason = "draining", why or "the server is shutting down"

    def require_service(self) -> Service:
        """The service, also while draining (for connections that are still open); Unavailable before it is ready."""
        if self.service is None or self.phase in ("starting", "failed"):
            raise Unavailable(f"not ready: {self.reason}", "not_ready", 5 if self.phase == "failed" else 1)
        return self.service
