"""A release on many servers: wave after wave, several servers at once, stopped by the first wave in which more fail
than may. What came before stays: a server that took the release is better off with it than without.

Knows one server's story by its end (rollout.py); nothing of how it is told.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from deploy.servers.inventory import Server, in_waves
from deploy.ship.rollout import Told

GOOD = ("live", "unchanged")
Roll = Callable[[Server], Told]
Seen = Callable[[int, Told], None]


class Fleet(msgspec.Struct, frozen=True):
    """told: of every server that was reached for, in the order of the waves; left: those that were not, and keep what
    they have."""

    told: tuple[Told, ...]
    left: tuple[str, ...]

    @property
    def failed(self) -> tuple[Told, ...]:
        return tuple(one for one in self.told if one.outcome not in GOOD)

    @property
    def complete(self) -> bool:
        return not self.failed and not self.left


def roll_out(
    servers: Sequence[Server], waves: Sequence[float], failures: int, parallel: int, roll: Roll, seen: Seen
) -> Fleet:
    """Call `roll` for each server, `parallel` of a wave at once; `seen` hears (number of the wave, how it ended).
    After a wave no other begins when more than `failures` servers have failed by then. An exception of `roll`
    (Ctrl-C) lets those that are being worked on end, begins no other, and is raised."""
    told: list[Told] = []
    parts = in_waves(servers, waves)
    for number, wave in enumerate(parts, 1):
        with ThreadPoolExecutor(min(parallel, len(wave))) as pool:
            try:
                for one in pool.map(roll, wave):
                    told.append(one)
                    seen(number, one)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if sum(one.outcome not in GOOD for one in told) > failures:
            return Fleet(tuple(told), tuple(server.name for later in parts[number:] for server in later))
    return Fleet(tuple(told), ())
