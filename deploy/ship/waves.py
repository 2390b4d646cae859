"""A release on many servers: wave after wave, several servers at once, stopped by the first wave in which more fail
than may. What came before stays: a server that took the release is better off with it than without.

Knows one server's story by its end (rollout.py); nothing of how it is told.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from deploy.servers.inventory import ServerConfig, split_into_waves
from deploy.ship.rollout import RolloutResult

SUCCESSES = ("live", "unchanged")
RollOut = Callable[[ServerConfig], RolloutResult]
OnResult = Callable[[int, RolloutResult], None]


class WavesResult(msgspec.Struct, frozen=True):
    """told: of every server that was reached for, in the order of the waves; left: those that were not, and keep what
    they have."""

    results: tuple[RolloutResult, ...]
    not_started: tuple[str, ...]

    @property
    def failures(self) -> tuple[RolloutResult, ...]:
        return tuple(one for one in self.results if one.outcome not in SUCCESSES)

    @property
    def is_complete(self) -> bool:
        return not self.failures and not self.not_started


def roll_out_in_waves(
    servers: Sequence[ServerConfig],
    waves: Sequence[float],
    failures: int,
    parallel: int,
    roll: RollOut,
    on_result: OnResult,
) -> WavesResult:
    """Call `roll` for each server, `parallel` of a wave at once; `seen` hears (number of the wave, how it ended).
    After a wave no other begins when more than `failures` servers have failed by then. An exception of `roll`
    (Ctrl-C) lets those that are being worked on end, begins no other, and is raised."""
    results: list[RolloutResult] = []
    parts = split_into_waves(servers, waves)
    for number, wave in enumerate(parts, 1):
        with ThreadPoolExecutor(min(parallel, len(wave))) as pool:
            try:
                for one in pool.map(roll, wave):
                    results.append(one)
                    on_result(number, one)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if sum(one.outcome not in SUCCESSES for one in results) > failures:
            return WavesResult(tuple(results), tuple(server.name for later in parts[number:] for server in later))
    return WavesResult(tuple(results), ())
