"""Plays rounds of releases on one device, each release in a container of its own. Judges nothing.

A round is several times A B B A (A B C C B A with an anchor), every other time from the other end, so that neither a
drift of the machine nor who comes first favours anybody. Slices are short and many: where its threads happen to run
sets a slice's speed for as long as it lasts (docs/lab.md), and only other slices tell.
"""

import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Protocol

from deploy.comparable import mismatches
from deploy.duet import ContainerContestant
from deploy.oneshot import duet_command, remove
from deploy.statistics import median
from toolchain.records.duet import BATCH, Played, Turn
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.gate import BASELINE, CANDIDATE, Round

TURNS, ROUND_S = (2, 8), 1.5  # A B B A so many times a round, as fit into its time
SLICE_S = 0.02
QUERIES = (16, 200)  # fewest: the slices of the fewest turns together must allow a 90th percentile
BATCHES = (2, 100)
WARM_QUERIES = 32
END_S = 10
# A container's clock against the host's: what it tells must fit into the time that it took to tell it, and the share of
# it that the requests fill must be about the same for all releases
CLOCK_SLACK = 1.02
CLOCK_SHARES_APART = 1.25
CLOCK_SLICES = 8


class NotComparable(Exception):
    """What was measured says nothing; the reason is a sentence. Caught by the gate, whose verdict it is."""


class Player(Protocol):
    """Plays a turn: a container of a release."""

    def play(self, turn: Turn) -> Played: ...


@dataclass(frozen=True)
class Entrant:
    """A release that plays: the image and which of its candidates."""

    image: str
    precision: str


@dataclass(frozen=True)
class Facts:
    """What a release told of itself before the first round; `right` of its held-out pictures."""

    device: Fingerprint
    threads: int
    engine: str
    right: tuple[bool, ...]


class Containers:
    """One container for each entrant, gone when the block is left, however it is left."""

    def __init__(self, entrants: Mapping[str, Entrant], threads: int | None) -> None:
        self._entrants, self._threads = entrants, threads
        self._stack = ExitStack()

    def __enter__(self) -> dict[str, Player]:
        with self._stack:
            players: dict[str, Player] = {}
            for role, entrant in self._entrants.items():
                name = f"edge-gate-{role}-{uuid.uuid4().hex[:8]}"
                command = duet_command(entrant.image, self._threads, name=name)
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                self._stack.callback(_end, process, command[0], name)
                players[role] = ContainerContestant(process, entrant.precision, role)
            self._stack = self._stack.pop_all()
            return players

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _end(process: "subprocess.Popen[str]", client: str, name: str) -> None:
    """The end of its input ends it; a container that does not listen is removed."""
    with suppress(OSError, ValueError):
        if process.stdin:
            process.stdin.close()
    try:
        process.wait(timeout=END_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        remove(client, name)
        process.kill()
        process.wait()
    finally:
        remove(client, name)
        if process.stdout:
            process.stdout.close()


class Match:
    """Rounds between `players`, by role; precisions: what each of them plays. slower: the candidate, on purpose."""

    def __init__(self, players: Mapping[str, Player], precisions: Mapping[str, str], slower: float = 0.0) -> None:
        self._players, self._precisions, self._slower = players, precisions, slower
        self._queries = self._batches = self._turns = 0
        self._shares: dict[str, list[float]] = {role: [] for role in players}
        self.engines: dict[str, str] = {}
        self.peak_memory_bytes: dict[str, int] = {}
        self.facts = {role: self._facts(role) for role in players}
        self._pace()

    def _facts(self, role: str) -> Facts:
        played = self._players[role].play(Turn(self._precisions[role], 1, "pictures"))
        if played.device is None:
            raise NotComparable(f"the {role} does not tell its device: its image is too old; make it again")
        return Facts(played.device, played.threads, played.engine, played.right)

    def check(self, across: Sequence[str] = ()) -> None:
        """NotComparable, with every reason, where the releases do not run alike on this device."""
        mine = self.facts[CANDIDATE]
        for role, other in self.facts.items():
            found = list(mismatches(mine.device, other.device, (mine.engine, other.engine), across))
            if found:
                raise NotComparable(f"candidate against {role}: {'; '.join(found)}")

    def _pace(self) -> None:
        """So many requests a slice that the slower of all takes about SLICE_S, the same for all."""
        slowest_ms, slowest_per_s = 0.0, float("inf")
        for role, player in self._players.items():
            precision = self._precisions[role]
            slowest_ms = max(slowest_ms, median(self._slice(role, WARM_QUERIES).latencies_ms))
            rate = player.play(Turn(precision, BATCHES[0], "throughput")).throughput_per_s or 0.0
            slowest_per_s = min(slowest_per_s, rate)
        self._queries = _clamped(SLICE_S * 1000 / max(slowest_ms, 1e-6), *QUERIES)
        self._batches = _clamped(SLICE_S * slowest_per_s / BATCH, *BATCHES)
        slices_s = self._queries * slowest_ms / 1000 + self._batches * BATCH / max(slowest_per_s, 1e-6)
        self._turns = _clamped(ROUND_S / (2 * len(self._players) * slices_s), *TURNS)

    def round(self, number: int) -> Round:
        """Round `number`, from 0. NotComparable for samples that are missing or a clock that cannot be right."""
        roles = [BASELINE, CANDIDATE, *(role for role in self._players if role not in (BASELINE, CANDIDATE))]
        latencies: dict[str, tuple[tuple[float, ...], ...]] = dict.fromkeys(roles, ())
        rates: dict[str, tuple[float, ...]] = dict.fromkeys(roles, ())
        throttled = dict.fromkeys(roles, 0)
        orders = [roles if (number + turn) % 2 == 0 else roles[::-1] for turn in range(self._turns)]
        for role in [role for order in orders for role in (*order, *order[::-1])]:
            alone = self._slice(role, self._queries)
            slower = self._slower if role == CANDIDATE else 0.0
            together = self._players[role].play(Turn(self._precisions[role], self._batches, "throughput", slower))
            latencies[role] += (alone.latencies_ms,)
            rates[role] += (together.throughput_per_s or 0.0,)
            throttled[role] += alone.throttled_periods + together.throttled_periods
            self.peak_memory_bytes[role] = max(together.peak_memory_bytes, self.peak_memory_bytes.get(role, 0))
        return Round(latencies, rates, throttled)

    def _slice(self, role: str, queries: int) -> Played:
        slower = self._slower if role == CANDIDATE else 0.0
        began = perf_counter()
        played = self._players[role].play(Turn(self._precisions[role], queries, "latency", slower))
        took_s = perf_counter() - began
        if len(played.latencies_ms) != queries:
            raise NotComparable(f"the {role} answered {len(played.latencies_ms)} of {queries} requests")
        self._check_clock(role, sum(played.latencies_ms) / 1000, took_s)
        return played

    def _check_clock(self, role: str, told_s: float, took_s: float) -> None:
        if told_s > CLOCK_SLACK * took_s:
            raise NotComparable(
                f"the {role}'s clock is wrong: it tells {told_s:.3f} s of requests in {took_s:.3f} s of this host's"
            )
        self._shares[role].append(told_s / took_s)
        if min(map(len, self._shares.values())) < CLOCK_SLICES:
            return
        shares = {role: median(found) for role, found in self._shares.items()}
        if max(shares.values()) > CLOCK_SHARES_APART * min(shares.values()):
            told = ", ".join(f"{100 * share:.0f} % ({role})" for role, share in shares.items())
            raise NotComparable(f"a clock is wrong: requests fill {told} of the time that they took on this host")


def _clamped(value: float, low: int, high: int) -> int:
    return max(low, min(high, round(value)))
