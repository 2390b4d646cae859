"""A hundred servers in memory: a slower release stops at the first wave; a thousand seeded runs under random faults."""

from contextlib import suppress

import pytest

from deploy.servers.inventory import ServerConfig
from deploy.servers.server import LockHolder
from deploy.ship.rollout import RolloutOptions, RolloutResult, roll_out_to_server
from deploy.ship.waves import WavesResult, roll_out_in_waves
from tests.deploy.servers.simulated import Killed, SimulatedServer, World

SERVERS = [ServerConfig(f"line-{number}", f"host-{number}") for number in range(100)]
WAVES = (1, 0.25)


def shipped(sites: dict[str, SimulatedServer], run: int = 1, failures: int = 0, parallel: int = 1) -> WavesResult:
    holder = LockHolder(f"run-{run}", "ada", "build", run, "boot", "2026-11-23T00:00:00+00:00", "1.5.0 is out")
    servers = [server for server in SERVERS if server.name in sites]

    def one(server: ServerConfig) -> RolloutResult:
        return roll_out_to_server(sites[server.name], "1.5.0", holder, RolloutOptions())

    return roll_out_in_waves(servers, WAVES, failures, parallel, one, lambda *_: None)


def make_servers(world: World, count: int = 100, slower: tuple[str, ...] = ()) -> dict[str, SimulatedServer]:
    return {server.name: SimulatedServer(server.name, world, "1.4.0", slower) for server in SERVERS[:count]}


def test_a_slower_release_is_stopped_at_the_first_wave_and_nobody_has_it() -> None:
    sites = make_servers(World(0, 0.0), slower=("1.5.0",))
    found = shipped(sites)
    assert [one.outcome for one in found.results] == ["refused"]
    assert len(found.not_started) == 99
    assert not found.is_complete
    assert {site.live for site in sites.values()} == {"1.4.0"}
    assert [len(site.notes) for site in sites.values()] == [1, *[0] * 99]


def test_failures_within_the_budget_do_not_stop_it() -> None:
    sites = make_servers(World(0, 0.0))
    sites["line-3"].slower = ("1.5.0",)
    assert len(shipped(dict(sites), failures=0).not_started) == 74  # all of the second wave was reached for
    assert {sites[name].live for name in ("line-1", "line-25", "line-26")} == {"1.5.0", "1.4.0"}
    found = shipped(sites, run=2, failures=1, parallel=8)
    assert (found.not_started, [one.server for one in found.failures]) == ((), ["line-3"])
    assert sum(site.live == "1.5.0" for site in sites.values()) == 99


@pytest.mark.slow
def test_in_a_thousand_runs_under_faults_every_server_serves_one_release_all_the_time() -> None:
    for seed in range(1000):
        world = World(seed, 0.03)
        sites = make_servers(world, 100 if seed % 50 == 0 else 8)
        for run in range(3):
            world.dead = False
            with suppress(Killed):
                shipped(sites, run, failures=100)
            for site in sites.values():
                assert site.containers.get(site.live), (seed, site.name)
                assert site.outages == 0, (seed, site.name)
        world.dead, world.faults = False, 0.0
        assert shipped(sites, 9).is_complete
        for site in sites.values():
            assert (site.live, set(site.containers), site.held) == ("1.5.0", {"1.5.0"}, None), (seed, site.name)
