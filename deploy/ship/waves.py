"""A rollout to many servers: wave by wave, several servers at once, stopped after the first wave with too many
failures.

Servers that already run the new release keep it. Knows only the result of each server (rollout.py).
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
    """results: of every server that was attempted, in the order of the waves; not_started: names of the others."""

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
    """Call `roll` for each server, `parallel` of a wave at once; `on_result` gets (number of the wave, result). No
    further wave starts once more than `failures` servers have failed. An exception of `roll` (Ctrl-C) is raised after
    the rollouts in progress have ended; no other is started."""
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
