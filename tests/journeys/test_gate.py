"""Releases judged in real containers: null engines that pretend to work for so many milliseconds."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from deploy.containers.readiness import check_ready
from deploy.docker.engine import connect
from deploy.gate.releases import resolve_arms
from deploy.gate.verdict import BUDGETS
from deploy.images.build import build_image
from deploy.ledger.ledger import Ledger
from tests.bundles import null_bundle
from tests.journeys.conftest import ROUND_S, Toolchain, lend_wheelhouse
from tests.journeys.said import Said
from tests.names import own_name
from toolchain.records.bundle import Bundle

pytestmark = [pytest.mark.docker, pytest.mark.slow]
Releases = Callable[..., str]
LOOSE = "--budget=0.2"  # what twice the time is beyond and a busy machine is not
REPOSITORY = own_name("edge-gated")
MADE: dict[tuple[str, float], tuple[str, Bundle]] = {}


@pytest.fixture(scope="module")
def folder(engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where images are made once for all tests; they go at the end."""
    yield tmp_path_factory.mktemp("releases")
    for tag, _ in MADE.values():
        engine.images.remove(tag, force=True)
    MADE.clear()


@pytest.fixture
def release(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Releases:
    """The tag of a release's image, which this test's ledger knows."""
    lend_wheelhouse(home)
    monkeypatch.setattr("deploy.gate.rounds.ROUND_S", ROUND_S)

    def made(number: str, delay_ms: float = 1.0) -> str:
        if (number, delay_ms) not in MADE:
            bundle = null_bundle(folder / f"{number}-{delay_ms}.bundle", delay_ms, number, name="gated")
            tag = f"{REPOSITORY}:{number}-{delay_ms:g}"
            build_image(bundle, tag)
            MADE[number, delay_ms] = tag, bundle
        tag, bundle = MADE[number, delay_ms]
        with Ledger() as ledger:
            ledger.record_release(bundle)
        return tag

    return made


def judge(toolchain: Toolchain, tag: str) -> Said:
    """A gate's result. Beside other tests a container may wait so long for a core that the gate calls the measurement
    not comparable, as it should; then it is run again, as a person would."""
    for _ in range(4):
        said = toolchain("gate", tag, LOOSE)
        if told(said)["verdict"] != "not comparable":
            break
    return said


def told(said: Said) -> Any:
    """The last line, whatever the verdict."""
    return json.loads(said.out.splitlines()[-1])


def containers() -> list[str]:
    """Those of this worker's images: another gate may run on this machine."""
    with closing(connect()) as client:
        found = client.containers.list(all=True, ignore_removed=True)
        return [str(one.name) for one in found if one.attrs["Config"]["Image"].startswith(f"{REPOSITORY}:")]


def test_a_slower_release_is_refused_and_the_next_is_held_against_the_last_that_passed(
    release: Releases, toolchain: Toolchain
) -> None:
    release("1")
    slow = judge(toolchain, release("2", delay_ms=2.0))
    assert (slow.code, told(slow)["verdict"], told(slow)["sides"]["baseline"]["release"]) == (1, "regressed", "1")
    assert "10 rounds: p50 " in slow.err
    assert "p50 " in slow.out and "worse than the baseline" in slow.out and "seen in both" in slow.out
    said = judge(toolchain, release("3"))
    assert (said.code, told(said)["verdict"], told(said)["sides"]["baseline"]["release"]) == (0, "passed", "1")
    after = judge(toolchain, release("4"))
    assert (after.code, told(after)["verdict"], told(after)["sides"]["baseline"]["release"]) == (0, "passed", "3")
    assert told(after)["sides"]["anchor"]["release"] == "1"
    with Ledger() as ledger:
        older = resolve_arms(release("3"), None, None, ledger)  # is held against what was before it, not after
    assert older is not None
    assert {role: arm.release for role, arm in older.items()} == {"candidate": "3", "baseline": "1"}
    assert containers() == []


def test_run_replaces_what_serves_only_by_a_release_that_passes(
    release: Releases, toolchain: Toolchain, engine: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.gate.run.BUDGETS", dict.fromkeys(BUDGETS, 0.2))  # as LOOSE
    name = own_name("edge-gated-server")
    try:
        first = toolchain("run", release("1"), "--port=0", f"--name={name}").last
        port = first["url"].rpartition(":")[2]
        refusal = toolchain("run", release("2", delay_ms=2.0), f"--port={port}", f"--name={name}").refusal()
        assert refusal.startswith("gated 2 does not replace 1: the gate's verdict is ")
        assert refusal.endswith("to replace it all the same: --skip-gate")
        assert engine.containers.get(name).id == first["id"]
        assert check_ready(first["url"])[0]
        slower = toolchain("run", release("2", delay_ms=2.0), f"--port={port}", f"--name={name}", "--skip-gate").last
        assert (slower["url"], slower["image"]) == (first["url"], release("2", delay_ms=2.0))
        assert toolchain("run", release("1"), f"--port={port}", f"--name={name}").last["image"] == release("1")
    finally:
        for container in engine.containers.list(all=True, ignore_removed=True):
            if str(container.name).startswith(name):
                container.remove(force=True)


def test_a_first_release_has_nothing_to_be_held_against(release: Releases, toolchain: Toolchain) -> None:
    said = toolchain("gate", release("1"))
    assert (said.code, told(said)["verdict"]) == (0, "passed")
    assert said.out.startswith("passed: a first release")


def test_what_cannot_be_gated_is_one_line(release: Releases, toolchain: Toolchain, tmp_path: Path) -> None:
    tag = release("3")
    for words, code, error in (
        (("edge-nothing:1",), 2, "edge-nothing:1: no such image on this engine; build it: toolchain image"),
        ((tag, "--against=9"), 2, "no release '9' of gated; the ledger has: 3; an image's tag works too"),
        ((tag, "--minutes=0"), 2, "--minutes=0: expected more than 0"),
        ((tag, "--budget=3"), 2, "--budget=3: expected a share between 0 and 1, such as 0.03 for 3 %"),
        ((tag, "--allow-difference=moon"), 2, "--allow-difference=moon: expected some of architecture"),
        (
            (null_bundle(tmp_path / "b", release="8").folder,),
            1,
            "its image (edge-null:8-null) is not on this engine; build it: toolchain image",
        ),
    ):
        said = toolchain("gate", *words)
        assert said.code == code
        assert error in said.err.splitlines()[-1]
    assert containers() == []


def test_a_release_whose_image_is_gone_is_named(release: Releases, toolchain: Toolchain, tmp_path: Path) -> None:
    tag = release("3")
    with Ledger() as ledger:
        ledger.record_release(null_bundle(tmp_path / "gone", release="gone", name="gated"))
    said = toolchain("gate", tag, "--against=gone")
    assert said.code == 1
    assert "its image is not on this engine; build or load it, or choose another: --against=…" in said.err


def test_ctrl_c_leaves_no_container_and_keeps_the_rounds(release: Releases, toolchain: Toolchain, home: Path) -> None:
    tag = release("3")
    command = [sys.executable, "-u", "-m", "toolchain", "gate", tag, f"--against={tag}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ) as gate:
        assert gate.stderr is not None
        while "against baseline" not in gate.stderr.readline():
            assert gate.poll() is None
        wait_until(lambda: len(containers()) == 2)
        first = containers()
        wait_until(lambda: len(set(containers()) - set(first)) == 2)  # those of the second round: one is over
        gate.send_signal(signal.SIGINT)
        assert gate.wait(timeout=60) == 130
        assert "rounds are kept; run the same command to resume" in gate.stderr.read()
    assert containers() == []
    said = toolchain("gate", tag, f"--against={tag}", LOOSE)
    assert said.code == 0
    assert "rounds of an interrupted gate" in said.err
    assert not list((home / "gates").glob("*"))


def wait_until(there: Callable[[], bool]) -> None:
    for _ in range(600):
        if there():
            return
        time.sleep(0.1)
    raise AssertionError("it never came")
