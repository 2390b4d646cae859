"""One server's story under every fault: never without what served, never with two, and the next run puts it right."""

from contextlib import suppress

import pytest

from deploy.servers.server import DamagedSignatureError, LockHolder, ShipError
from deploy.ship.rollout import RolloutOptions, plan_steps, roll_out_to_server
from tests.deploy.servers.simulated import LIVING, Killed, SimulatedServer, World

CALM = 0.0


def holder(number: int = 1) -> LockHolder:
    return LockHolder(f"run-{number}", "ada", "build", number, "boot", "2026-11-23T00:00:00+00:00", "1.5.0 is out")


def test_a_release_that_is_no_slower_goes_live_and_the_old_one_goes() -> None:
    site = SimulatedServer("line-1", World(0, CALM), live="1.4.0")
    told = roll_out_to_server(site, "1.5.0", holder(), RolloutOptions())
    assert (told.outcome, told.before, told.live, told.verdict) == ("live", "1.4.0", "1.5.0", "passed")
    assert (site.live, site.containers, site.held) == ("1.5.0", {"1.5.0": True}, None)
    assert [(note.release, note.outcome, note.who) for note in site.notes] == [("1.5.0", "live", "ada")]
    assert roll_out_to_server(site, "1.5.0", holder(), RolloutOptions()).outcome == "unchanged"


def test_a_slower_release_is_refused_there_and_leaves_nothing() -> None:
    site = SimulatedServer("line-1", World(0, CALM), live="1.4.0", slower=("1.5.0",))
    told = roll_out_to_server(site, "1.5.0", holder(), RolloutOptions())
    assert (told.outcome, told.live, told.reason) == (
        "refused",
        "1.4.0",
        "the gate's verdict is regressed: p50 9 % slower",
    )
    assert (site.live, site.containers) == ("1.4.0", {"1.4.0": True})
    assert site.notes[-1].outcome == "refused"
    despite = roll_out_to_server(site, "1.5.0", holder(), RolloutOptions(skip_gate="recall of 1.4.0"))
    assert (despite.outcome, site.live) == ("live", "1.5.0")
    assert "recall of 1.4.0" in site.notes[-1].reason


def test_a_release_older_than_what_was_shipped_goes_live_only_where_that_is_asked_for_and_it_is_said() -> None:
    site = SimulatedServer("line-1", World(0, CALM), live="1.5.0")
    site.newer = "1.5.0"
    refused = roll_out_to_server(site, "1.4.0", holder(), RolloutOptions())
    assert (refused.outcome, refused.live, site.live, site.images) == ("refused", "1.5.0", "1.5.0", {"1.5.0"})
    assert refused.reason == (
        "line-1: 1.4.0 was signed before 1.5.0, which was shipped there; to go back: toolchain rollback, or "
        "--allow-downgrade"
    )
    allowed = roll_out_to_server(site, "1.4.0", holder(), RolloutOptions(allow_downgrade=True))
    assert (allowed.outcome, allowed.live, allowed.downgrade_from) == ("live", "1.4.0", "1.5.0")
    assert allowed.reason == site.notes[-1].reason == "went back from 1.5.0, which was signed later; no slower"
    assert [note.outcome for note in site.notes] == ["refused", "live"]


def test_where_it_cannot_be_known_what_is_newer_going_back_must_be_allowed() -> None:
    class Damaged(SimulatedServer):
        def newer_release(self, release: str) -> str:
            raise DamagedSignatureError("line-1: the signature kept of 1.5.0: not a signature", "1.5.0")

    site = Damaged("line-1", World(0, CALM), live="1.5.0")
    refused = roll_out_to_server(site, "1.6.0", holder(), RolloutOptions())
    assert (refused.outcome, site.live) == ("failed", "1.5.0")
    allowed = roll_out_to_server(site, "1.6.0", holder(), RolloutOptions(allow_downgrade=True))
    assert (allowed.outcome, allowed.live, allowed.downgrade_from) == ("live", "1.6.0", "1.5.0")


def test_a_plan_says_that_it_goes_back() -> None:
    site = SimulatedServer("line-1", World(0, CALM), live="1.5.0")
    site.newer = "1.5.0"
    with pytest.raises(ShipError, match="--allow-downgrade"):
        plan_steps(site, "1.4.0", RolloutOptions())
    plan = plan_steps(site, "1.4.0", RolloutOptions(allow_downgrade=True))
    assert plan[1] == "go back from 1.5.0, which was signed later"


def test_the_first_release_needs_no_gate() -> None:
    site = SimulatedServer("line-1", World(0, CALM), slower=("1.0.0",))
    assert roll_out_to_server(site, "1.0.0", holder(), RolloutOptions()).outcome == "live"
    assert site.live == "1.0.0"


def test_a_lock_is_respected_while_its_holder_lives_and_taken_when_not() -> None:
    site = SimulatedServer("line-1", World(0, CALM), live="1.4.0")
    site.held = holder(7)
    LIVING.add(7)
    try:
        told = roll_out_to_server(site, "1.5.0", holder(), RolloutOptions())
        assert (told.outcome, site.live) == ("locked", "1.4.0")
    finally:
        LIVING.discard(7)
    assert roll_out_to_server(site, "1.5.0", holder(), RolloutOptions()).outcome == "live"


@pytest.mark.parametrize("seeds", [range(200), range(200, 400)])
def test_under_random_faults_one_release_serves_at_any_time_and_a_calm_run_ends_it(seeds: range) -> None:
    for seed in seeds:
        stormy(seed)


def stormy(seed: int) -> None:
    slower = ("1.5.0",) if seed % 5 == 0 else ()
    site = SimulatedServer("line-1", World(seed, 0.08), live="1.4.0", slower=slower)
    for number in range(4):
        site.world.dead = False
        with suppress(Killed):
            told = roll_out_to_server(site, "1.5.0", holder(number), RolloutOptions())
            assert told.outcome != "locked"
        assert site.live in ("1.4.0", "1.5.0")
        assert site.containers.get(site.live)
        assert site.outages == 0
    site.world.dead, site.world.faults = False, 0.0
    told = roll_out_to_server(site, "1.5.0", holder(99), RolloutOptions())
    expected = "1.4.0" if slower else "1.5.0"
    assert told.outcome in (("refused",) if slower else ("live", "unchanged"))
    assert (site.live, set(site.containers), site.held) == (expected, {expected}, None)
