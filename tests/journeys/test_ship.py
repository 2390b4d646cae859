"""A release on edge servers: three Docker Engines of their own, each behind a real sshd on an address of its own."""

import json
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from deploy.images.build import build_image
from tests import edges
from tests.bundles import null_bundle
from tests.edges import Edge
from tests.journeys.conftest import Toolchain, lend_wheelhouse, shorten_gates, typing_into
from tests.journeys.said import Said
from tests.offline_bundles import foreign_image, second_image
from tests.shipped import answers, clean, inventory, left_behind, serves, shipping, tag, under_load, until

pytestmark = [pytest.mark.docker, pytest.mark.slow, pytest.mark.skipif(bool(edges.why_not()), reason=edges.why_not())]
DELAYS_MS, SMALL_DISK_MB = {"1": 1.0, "2": 1.0, "3": 3.0}, 96


@pytest.fixture(scope="module")
def rack(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Edge]]:
    """edge1 and edge2 are alike; edge3 has hardly a disk."""
    folder = tmp_path_factory.mktemp("rack")
    with pytest.MonkeyPatch.context() as patch, edges.edges(folder, 3, {3: SMALL_DISK_MB}) as made:
        patch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
        patch.setenv("TOOLCHAIN_HOME", str(folder / "home"))
        patch.chdir(folder)
        shorten_gates(patch, folder)
        lend_wheelhouse(folder / "home")
        for number, delay in DELAYS_MS.items():
            build_image(null_bundle(folder / f"{number}.bundle", delay, number, name="shipped"), tag(number))
        yield made
    for number in DELAYS_MS:
        engine.images.remove(tag(number), force=True)


@pytest.fixture
def home(rack: list[Edge]) -> Path:
    """The one that the rack's images are signed in, for all tests."""
    return rack[0].folder.parent / "home"


@pytest.fixture
def toolchain(rack: list[Edge], capfd: pytest.CaptureFixture[str]) -> Toolchain:
    """As in the other journeys, in the rack's folder and home."""
    return typing_into(capfd)


def ship_and_judge(toolchain: Toolchain, *words: object) -> Said:
    """Again where a busy machine made the gate's measurement not comparable, as a person would."""
    for _ in range(4):
        said = toolchain("ship", *words)
        if "verdict is not comparable" not in said.err:
            break
    return said


def told(said: Said) -> Any:
    return json.loads(said.out.splitlines()[-1])


def test_a_dry_run_says_all_that_would_be_done_and_does_nothing(toolchain: Toolchain, rack: list[Edge]) -> None:
    inventory(rack[:2])
    plan = toolchain("ship", tag("1"), "--dry-run").last["plan"]
    assert list(plan) == ["edge1", "edge2"]
    assert plan["edge1"][0] == "take the lock"
    assert re.fullmatch(r"send 5 layers \(2\d\d\.\d MB unpacked\)", plan["edge1"][1])
    assert plan["edge1"][-2] == "switch to 1"
    assert left_behind(rack[0]) == {"containers": [], "images": [], "files": []}


def test_a_first_release_goes_live_wave_by_wave_and_leaves_nothing_behind(
    toolchain: Toolchain, rack: list[Edge]
) -> None:
    inventory(rack[:2])
    said = toolchain("ship", tag("1"), "--message=the first")
    assert said.last["complete"], said.err
    assert [(one["server"], one["outcome"], one["verdict"]) for one in said.last["servers"]] == [
        ("edge1", "live", "first"),
        ("edge2", "live", "first"),
    ]
    assert said.err.index("wave 1: edge1: live") < said.err.index("wave 2: edge2: live")
    assert [serves(edge) for edge in rack[:2]] == ["1", "1"]
    assert left_behind(rack[0]) == clean("1")
    again = toolchain("ship", tag("1")).last
    assert [(one["outcome"], one["sent_bytes"]) for one in again["servers"]] == [("unchanged", 0), ("unchanged", 0)]


def test_the_next_release_sends_only_the_model_is_judged_there_and_no_request_is_lost(
    toolchain: Toolchain, rack: list[Edge]
) -> None:
    inventory(rack[:2])
    with under_load(rack[0]) as answers:
        (told,) = ship_and_judge(toolchain, tag("2"), "edge1").last["servers"]
    assert (told["outcome"], told["before"], told["live"]) == ("live", "1", "2")
    assert told["verdict"] in ("passed", "inconclusive")
    assert told["sent_bytes"] < 50_000
    assert set(answers) == {"200"}, answers
    assert serves(rack[0]) == "2"
    assert left_behind(rack[0]) == clean("2", "1", "2")


def test_going_back_loses_no_request_and_is_in_the_audit(toolchain: Toolchain, rack: list[Edge]) -> None:
    inventory(rack[:2])
    with under_load(rack[0]) as answers:
        (told,) = toolchain("rollback", "edge1", "--message=it blinks").last["servers"]
    assert (told["outcome"], told["live"], told["verdict"]) == ("live", "1", "not asked")
    assert set(answers) == {"200"}, answers
    notes = toolchain("audit", "edge1").last["servers"]["edge1"]
    assert [(note["what"], note["release"]) for note in notes if note["outcome"] == "live"] == [
        ("ship: the first", "1"),
        ("ship: shipped 2", "2"),
        ("rollback: it blinks", "1"),
    ]
    assert toolchain("audit", "edge1", "--verify").last["servers"]["edge1"]["seen"] == len(notes)
    nowhere = toolchain("rollback", "edge1", "--release=7")
    assert (nowhere.code, "no image of shipped 7 there; it has: 1, 2" in nowhere.err) == (1, True)


def test_a_slower_release_stops_at_the_first_wave(toolchain: Toolchain, rack: list[Edge]) -> None:
    inventory(rack[:2])
    said = ship_and_judge(toolchain, tag("3"))
    assert (said.code, told(said)["left"]) == (1, ["edge2"])
    (refused,) = told(said)["servers"]
    assert (refused["outcome"], refused["verdict"], refused["live"]) == ("refused", "regressed", "1")
    assert [serves(edge) for edge in rack[:2]] == ["1", "1"]
    assert left_behind(rack[0]) == clean("1", "1", "2")
    last = toolchain("audit", "edge1").last["servers"]["edge1"][-1]
    assert (last["outcome"], last["reason"][:40]) == ("refused", "the gate's verdict is regressed: p50 is ")
    despite = toolchain("ship", tag("3"), "edge1", "--skip-gate", "--reason=a recall of 1").last["servers"][0]
    assert (despite["live"], despite["verdict"]) == ("3", "not asked")
    assert "a recall of 1" in toolchain("audit", "edge1").last["servers"]["edge1"][-1]["reason"]
    assert toolchain("rollback", "edge1", "--release=1").last["servers"][0]["live"] == "1"


def test_status_and_servers_tell_what_is_there(toolchain: Toolchain, rack: list[Edge]) -> None:
    inventory(rack)
    rows = {one["server"]: one for one in toolchain("status").last["servers"]}
    assert (rows["edge2"]["live"], rows["edge2"]["serves"], rows["edge3"]["live"]) == ("1", True, "")
    found = toolchain("servers").last["servers"]
    assert [one["serves"] for one in found] == [["shipped 1"], ["shipped 1"], []]
    assert {one["cores"] for one in found} == {os.cpu_count()}
    assert found[2]["free_bytes"] < SMALL_DISK_MB << 20
    assert '"ready"' in toolchain("logs", "edge1", "--lines=50").out


def test_what_does_not_fit_there_is_refused_in_a_line_and_leaves_nothing(
    toolchain: Toolchain, rack: list[Edge]
) -> None:
    inventory(rack, "", "kind = 'gpu'")
    assert "edge2 is a gpu server, edge-shipped:2 is for cpu" in toolchain("ship", tag("2"), "edge2").err
    line = r"wave 1: edge3: failed: edge3: \d+ MB free in .+ there, \d+ MB needed; free some: ssh"
    assert re.search(line, toolchain("ship", tag("2"), "edge3").err)
    assert "MB free in" in toolchain("audit", "edge3").last["servers"]["edge3"][-1]["reason"]
    left = left_behind(rack[2])  # a container that never runs
    assert (left["containers"], left["files"], left_behind(rack[1])) == (["edge-shipped-trust"], [], clean("1"))
    rack[1].cut()
    try:
        cut = toolchain("status", "edge2")
        assert (cut.code, told(cut)["servers"][0]["live"]) == (1, "")
        assert "ssh failed" in told(cut)["servers"][0]["error"]
    finally:
        rack[1].mend()


def test_another_s_signature_is_refused_until_it_is_trusted(toolchain: Toolchain, rack: list[Edge], home: Path) -> None:
    inventory(rack[:2])
    signatures = home / "signatures"
    kept = {path: path.read_bytes() for path in signatures.iterdir()}
    other = home / "other.key"
    other.write_text("Y2hhbmdlIG1lIGNoYW5nZSBtZSBjaGFuZ2UgbWUgMTI=\n")
    try:
        signed = toolchain("image", "sign", tag("2"), f"--key={other}").last
        place = signatures / f"{signed['content']['config'].rpartition(':')[2]}.json"
        refused = toolchain("ship", tag("2"), "edge1")
        assert refused.code == 1
        assert f"is signed by {signed['key'][:16]}, which is not trusted there" in refused.err
        place.write_text(place.read_text().replace('"shipped"', '"shopped"'))
        assert "it was changed after it was signed" in toolchain("ship", tag("2"), "edge1").err
        place.unlink()
        assert "edge-shipped:2 is not signed" in toolchain("ship", tag("2"), "edge1").err
        assert "is not signed" in toolchain("audit", "edge1").last["servers"]["edge1"][-1]["reason"]
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert left_behind(rack[0])["containers"] == clean("1")["containers"]
    assert serves(rack[0]) == "1"


def test_a_stick_brings_a_release_to_a_server_that_takes_it_as_if_it_were_shipped(
    toolchain: Toolchain, rack: list[Edge], tmp_path: Path
) -> None:
    inventory(rack[:2])
    stick = tmp_path / "stick.tar"
    packed = toolchain("pack", tag("2"), f"--to={stick}", "--for=edge2").last
    assert (packed["size_bytes"] < 100_000, [one["left_out"] for one in packed["archives"]]) == (True, [4])
    flags = ("--skip-gate", "--reason=tried above", "--message=carried")
    with closing(rack[1].client()) as client:
        assert tag("2") not in str(client.images.list())
        with foreign_image(client) as name, second_image(stick, name) as attack:
            (refused,) = told(toolchain("unpack", attack, "edge2", *flags))["servers"]
    assert (refused["outcome"], refused["live"], "archive declares" in refused["reason"]) == ("failed", "1", True)
    (told_of,) = toolchain("unpack", stick, "edge2", *flags).last["servers"]
    assert (told_of["live"], serves(rack[1])) == ("2", "2")
    assert toolchain("audit", "edge2").last["servers"]["edge2"][-1]["what"] == "ship: carried"
    assert left_behind(rack[1]) == clean("2", "1", "2")
    toolchain("rollback", "edge2")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(stick.read_bytes()[:4000])
    assert "cut.tar" in toolchain("unpack", cut, "edge2").refusal(2)


@pytest.mark.skipif(not shutil.which("docker-registry"), reason="no registry here: deploy/setup.sh servers")
def test_a_registry_is_gone_through_where_the_inventory_names_one(
    toolchain: Toolchain, rack: list[Edge], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """edge1's engine plays the build machine's: unlike that, it may speak to a registry without TLS."""
    inventory(rack[:2])
    flags = ("--skip-gate", "--reason=tried above")
    assert "edge1: 2 was signed before 3, which was shipped there" in toolchain("ship", tag("2"), "edge1", *flags).err
    (back,) = toolchain("ship", tag("2"), "edge1", *flags, "--allow-downgrade").last["servers"]
    assert (back["live"], back["downgrade_from"], back["reason"][:16]) == ("2", "3", "went back from 3")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{rack[0].socket}")
    with edges.registry(tmp_path) as name:
        place = rack[0].folder.parent / "inventory.toml"
        place.write_text(place.read_text().replace("[policy]\n", f"[policy]\nregistry = '{name}/team'\n"))
        with closing(rack[1].client()) as client:
            client.images.remove(tag("2"), force=True)
        said = toolchain("ship", tag("2"), "edge2", *flags)
    assert f"pulling {name}/team/edge-shipped@sha256:" in said.err
    assert left_behind(rack[1]) == clean("2", "1", "2")
    assert (said.last["servers"][0]["live"], serves(rack[1])) == ("2", "2")
    toolchain("rollback", "edge2")


def test_a_run_that_is_killed_is_put_right_by_the_next(toolchain: Toolchain, rack: list[Edge]) -> None:
    inventory(rack[:2])
    with shipping(tag("2"), "edge2") as killed:
        until(killed, "waiting until 2 is certified there")
        killed.send_signal(signal.SIGKILL)
    assert serves(rack[1]) == "1"
    assert "edge-shipped-lock" in str(left_behind(rack[1])["containers"])
    said = toolchain("ship", tag("2"), "edge2", "--skip-gate", "--reason=tried above")
    assert "taking the lock of" in said.err
    assert "removing 2, which an interrupted run left" in said.err
    assert said.last["servers"][0]["live"] == "2"
    assert left_behind(rack[1]) == clean("2", "1", "2")


def test_a_transfer_that_was_cut_goes_on_where_it_was(toolchain: Toolchain, rack: list[Edge]) -> None:
    inventory(rack[:2])
    edge = rack[1]
    for container in ("edge-shipped-at-2", "edge-shipped-door", "edge-shipped-trust"):
        with closing(edge.client()) as client:
            client.containers.get(container).remove(force=True)
    with closing(edge.client()) as client:
        for image in client.images.list():
            client.images.remove(str(image.id), force=True)
        client.volumes.get("edge-shipped-door").remove()
        client.volumes.get("edge-shipped-trust").remove()
    edge.slow(mbit=80)
    try:
        with shipping(tag("1"), "edge2") as process:
            until(process, " MB sent")
            edge.cut()
            time.sleep(3)
            edge.mend()
            out, _ = process.communicate(timeout=400)
    finally:
        edge.quick()
    (found,) = json.loads(out.splitlines()[-1])["servers"]
    whole = next((rack[0].folder.parent / "home" / "shipping").glob("*-0.tar.gz")).stat().st_size
    assert found["live"] == "1"
    assert found["sent_bytes"] < 1.5 * whole  # not once more from the start
    assert left_behind(edge) == clean("1")


def test_an_engine_that_dies_meanwhile_leaves_the_old_release_serving(toolchain: Toolchain, rack: list[Edge]) -> None:
    inventory(rack[:2])
    edge = rack[1]
    with shipping(tag("2"), "edge2", "--skip-gate", "--reason=tried above") as process:
        until(process, "waiting until 2 is certified there")
        edge.kill_engine()
        assert serves(edge) == "1"
        assert process.wait(timeout=120) == 1
    edge.start_engine()
    edges.wait_for(lambda: answers(edge), "the old release, started again with its engine")
    assert serves(edge) == "1"
    assert toolchain("ship", tag("2"), "edge2", "--skip-gate", "--reason=tried above").last["servers"][0]["live"] == "2"
    assert left_behind(edge) == clean("2", "1", "2")
