"""A hundred servers in memory: a slower release stops at the first wave; a thousand seeded runs under random faults."""

from contextlib import suppress

from deploy.servers.inventory import Server
from deploy.servers.server import Ticket
from deploy.ship.rollout import Terms, Told, roll
from deploy.ship.waves import Fleet, roll_out
from tests.deploy.servers.simulated import Killed, SimulatedSite, World

SERVERS = [Server(f"line-{number}", f"host-{number}") for number in range(100)]
WAVES = (1, 0.25)


def shipped(sites: dict[str, SimulatedSite], run: int = 1, failures: int = 0, parallel: int = 1) -> Fleet:
    ticket = Ticket(f"run-{run}", "ada", "build", run, "boot", "2026-11-23T00:00:00+00:00", "1.5.0 is out")
    servers = [server for server in SERVERS if server.name in sites]

    def one(server: Server) -> Told:
        return roll(sites[server.name], "1.5.0", ticket, Terms())

    return roll_out(servers, WAVES, failures, parallel, one, lambda *_: None)


def fleet_of(world: World, count: int = 100, slower: tuple[str, ...] = ()) -> dict[str, SimulatedSite]:
    return {server.name: SimulatedSite(server.name, world, "1.4.0", slower) for server in SERVERS[:count]}


def test_a_slower_release_is_stopped_at_the_first_wave_and_nobody_has_it() -> None:
    sites = fleet_of(World(0, 0.0), slower=("1.5.0",))
    found = shipped(sites)
    assert [one.outcome for one in found.told] == ["refused"]
    assert len(found.left) == 99
    assert not found.complete
    assert {site.live for site in sites.values()} == {"1.4.0"}
    assert [len(site.notes) for site in sites.values()] == [1, *[0] * 99]


def test_failures_within_the_budget_do_not_stop_it() -> None:
    sites = fleet_of(World(0, 0.0))
    sites["line-3"].slower = ("1.5.0",)
    assert len(shipped(dict(sites), failures=0).left) == 74  # all of the second wave was reached for
    assert {sites[name].live for name in ("line-1", "line-25", "line-26")} == {"1.5.0", "1.4.0"}
    found = shipped(sites, run=2, failures=1, parallel=8)
    assert (found.left, [one.server for one in found.failed]) == ((), ["line-3"])
    assert sum(site.live == "1.5.0" for site in sites.values()) == 99


def test_in_a_thousand_runs_under_faults_every_server_serves_one_release_all_the_time() -> None:
    for seed in range(1000):
        world = World(seed, 0.03)
        sites = fleet_of(world, 100 if seed % 50 == 0 else 8)
        for run in range(3):
            world.dead = False
            with suppress(Killed):
                shipped(sites, run, failures=100)
            for site in sites.values():
                assert site.containers.get(site.live), (seed, site.name)
                assert site.outages == 0, (seed, site.name)
        world.dead, world.faults = False, 0.0
        assert shipped(sites, 9).complete
        for site in sites.values():
            assert (site.live, set(site.containers), site.held) == ("1.5.0", {"1.5.0"}, None), (seed, site.name)
