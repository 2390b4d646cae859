"""An edge server in memory, whose every call may fail, take effect and fail all the same, or be the tool's last."""

from random import Random

from deploy.servers.server import AuditEntry, GateResult, LockedError, LockHolder, ServerState, ShipError


class Killed(BaseException):
    """kill -9: nothing that the tool still does has an effect."""


class World:
    """What the servers share: chance, and whether the tool lives. faults: the share of calls that go wrong."""

    def __init__(self, seed: int, faults: float) -> None:
        self.random, self.faults, self.dead = Random(seed), faults, False

    def strikes(self) -> str:
        """ "", "before" (nothing was done), "after" (it was done, and the answer lost) or "kill"."""
        if self.dead:
            raise Killed
        if self.random.random() >= self.faults:
            return ""
        how = self.random.choice(("before", "after", "before", "after", "kill"))
        if how == "kill":
            self.dead = True
            if self.random.random() < 0.5:
                raise Killed
        return how


class SimulatedServer:
    """slower: releases that its gate calls regressed; newer: what was shipped before and signed later than others."""

    def __init__(self, name: str, world: World, live: str = "", slower: tuple[str, ...] = ()) -> None:
        self.name, self.world, self.slower = name, world, slower
        self.live, self.containers = live, {live: True} if live else dict[str, bool]()
        self.images = {live} if live else set[str]()
        self.held: LockHolder | None = None
        self.notes: list[AuditEntry] = []
        self.newer = ""
        self.outages = 0

    def _done(self, effect: object = None) -> None:
        how = self.world.strikes()
        if how == "before":
            raise ShipError(f"{self.name}: the link is cut")
        if callable(effect):
            effect()
        if self.live and not self.containers.get(self.live, False):
            self.outages += 1
        if how == "after":
            raise ShipError(f"{self.name}: no answer")
        if how == "kill":
            raise Killed

    def lock(self, holder: LockHolder) -> None:
        def effect() -> None:
            if self.held and self.held.holder != holder.holder and self.held.pid in LIVING:
                raise LockedError(f"{self.name}: locked by {self.held.who}")
            self.held = holder

        self._done(effect)

    def unlock(self, holder: LockHolder) -> None:
        def effect() -> None:
            if self.held and self.held.holder == holder.holder:
                self.held = None

        self._done(effect)

    def read_state(self) -> ServerState:
        self._done()
        return ServerState(self.live, dict(self.containers), tuple(self.images))

    def check(self, release: str) -> None:
        self._done()

    def newer_release(self, release: str) -> str:
        self._done()
        return self.newer if release != self.newer else ""

    def send(self, release: str) -> int:
        self._done(lambda: self.images.add(release))
        return 1

    def verify(self, release: str) -> None:
        self._done()
        assert release in self.images

    def start(self, release: str) -> None:
        self._done(lambda: self.containers.setdefault(release, True))

    def wait_healthy(self, release: str) -> None:
        self._done()
        if not self.containers.get(release):
            raise ShipError(f"{self.name}: {release} does not run")

    def gate(self, release: str, against: str) -> GateResult:
        self._done()
        assert self.containers.get(against)
        return (
            GateResult("regressed", "p50 9 % slower") if release in self.slower else GateResult("passed", "no slower")
        )

    def switch(self, release: str) -> None:
        def effect() -> None:
            assert self.containers.get(release), "a release that does not run was named"
            self.live = release

        self._done(effect)

    def stop(self, release: str) -> None:
        def effect() -> None:
            assert release != self.live, "what serves was stopped"
            self.containers.pop(release, None)

        self._done(effect)

    def missing_layers(self) -> tuple[int, int]:
        self._done()
        return 1, 1

    def prune(self, keep: frozenset[str]) -> None:
        def effect() -> None:
            self.images &= keep
            assert not self.live or self.live in keep

        self._done(effect)

    def append_audit(self, line: AuditEntry) -> None:
        self._done(lambda: self.notes.append(line))


LIVING: set[int] = set()  # processes of the tool that still run
