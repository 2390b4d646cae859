"""`toolchain deploy` on a user's own model: one real container, and what everybody sees of it afterwards."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient

from deploy.images.build import find_image
from tests.journeys.conftest import Toolchain, lend_wheelhouse
from tests.journeys.own import changed
from tests.journeys.said import half_written
from tests.names import own_name
from toolchain.records.bundle import Bundle, open_bundle
from toolchain.records.manifest import Candidate

pytestmark = [pytest.mark.docker, pytest.mark.slow]
NAME = own_name("journey-grey28")
CONTAINER = f"edge-{NAME}"
KEYS = {
    "release", "target", "bundle", "url", "precision", "accuracy_fp32", "accuracy", "latency_ms",
    "latency_ms_torch_fp32", "latency_ms_openvino_fp32", "speedup", "size_bytes", "image_bytes", "cold_start_s",
}  # fmt: skip
# stages that a changed number of calibration samples leaves as they were
UNTOUCHED = {
    "data: classes, sizes, images in two splits",
    "model: fp32 accuracy on the test split",
    "model: load and check",
    "export: ONNX, checked by ONNX Runtime against torch",
    "openvino: fp32",
    "openvino: bf16",
}


@dataclass(frozen=True)
class Deployed:
    """What the first `toolchain deploy` was given, said and left."""

    recipe: Path
    home: Path
    port: int
    out: str
    err: str

    @property
    def last(self) -> Any:
        return json.loads(self.out.splitlines()[-1])

    @property
    def bundle(self) -> Bundle:
        return open_bundle(Path(self.last["bundle"]))

    def candidate(self, precision: str) -> Candidate:
        return next(one for one in self.bundle.manifest.candidates if one.precision == precision)


def command(verb: str, recipe: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "toolchain", verb, str(recipe), *flags]


def at(home: Path) -> dict[str, str]:
    return {**os.environ, "TOOLCHAIN_HOME": str(home)}


def stages(err: str) -> dict[str, str]:
    """Each stage by its title: `unchanged`, `made`, or `resumed`."""
    found = {}
    for line in err.splitlines():
        if match := re.fullmatch(r"(.+?)(: unchanged|: going on where it was interrupted| \.\.\.)", line):
            found[match[1]] = {": unchanged": "unchanged", " ...": "made"}.get(match[2], "resumed")
    return found


@pytest.fixture(scope="module")
def deployed(own: Path, engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """As a user does it: a process of its own, in her folder, on a port that is free."""
    recipe = changed(own / "grey28.toml", ('name = "grey28"', f'name = "{NAME}"'), to="journey.toml")
    home = tmp_path_factory.mktemp("home")
    lend_wheelhouse(home)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    try:
        done = subprocess.run(
            command("deploy", recipe, f"--port={port}"),
            env=at(home), cwd=own, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        yield Deployed(recipe, home, port, done.stdout, done.stderr)
    finally:
        for container in engine.containers.list(all=True, filters={"name": f"^/{CONTAINER}$"}):
            container.remove(force=True)
        for tag in (f"{CONTAINER}:1-openvino", f"{CONTAINER}:2-openvino"):
            if find_image(engine, tag):
                engine.images.remove(tag, force=True)


@pytest.fixture
def home(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home that was deployed from, for the verbs in this process."""
    monkeypatch.setenv("TOOLCHAIN_HOME", str(deployed.home))
    return deployed.home


def test_the_last_line_says_all_that_was_asked_for(deployed: Deployed) -> None:
    last, manifest = deployed.last, deployed.bundle.manifest
    assert set(last) >= KEYS
    assert last["release"] == "1"
    assert last["url"] == f"http://127.0.0.1:{deployed.port}"
    assert last["accuracy_fp32"] == pytest.approx(271 / 280)
    assert manifest.accuracy is not None
    serves = deployed.candidate(last["precision"])  # fp32 and int8 are equally fast here: either may win on the device
    assert last["accuracy"] == serves.accuracy >= manifest.accuracy.floor
    assert all(last[key] > 0 for key in KEYS if isinstance(last[key], int | float))
    assert 0 < last["cold_start_s"] < 30
    assert last["image_bytes"] <= 260_000_000
    assert last["certified"] is True


def test_the_page_shows_before_and_after_and_nothing_is_half_written(deployed: Deployed) -> None:
    assert "before: PyTorch fp32, eager" in deployed.out
    assert f"after: container, openvino {deployed.last['precision']}" in deployed.out
    assert half_written(deployed.home) == []


def test_a_first_success_fits_a_screen_and_links_to_the_report(deployed: Deployed) -> None:
    shown = deployed.out.splitlines()
    assert len(shown) <= 40
    assert len(deployed.err.splitlines()) <= 80
    assert "not valid" not in deployed.out + deployed.err
    report = next(line.partition("report: ")[2] for line in shown if "; report: " in line)
    assert (deployed.recipe.parent / report).is_file()
    numbered = re.findall(r"^\[(\d+) of (\d+)\] ", deployed.err, re.MULTILINE)
    assert [int(number) for number, _ in numbered] == list(range(1, int(numbered[0][1]) + 1))


def test_the_curl_line_works_when_pasted(deployed: Deployed, own: Path) -> None:
    line = next(line.strip() for line in deployed.out.splitlines() if line.strip().startswith("curl "))
    answer = subprocess.run(line, shell=True, cwd=own, capture_output=True, text=True, check=True).stdout
    assert any(label in answer for label in deployed.bundle.manifest.labels)
    assert "error" not in json.loads(answer)


def test_the_container_gets_right_what_the_manifest_says(deployed: Deployed, toolchain: Toolchain) -> None:
    found = toolchain("eval", deployed.last["url"], f"--recipe={deployed.recipe}").last
    assert (found["images"], found["accuracy"]) == (280, deployed.last["accuracy"])


def test_every_verb_ends_with_json(deployed: Deployed, toolchain: Toolchain) -> None:
    image, bundle = deployed.last["image"], deployed.bundle
    certified = toolchain("certify", image).last
    assert certified["passed"] is True
    assert certified["certificate"]["bundle"] == bundle.digest
    assert {check["passed"] for check in certified["certificate"]["checks"]} == {True}
    report = toolchain("bench", image, "--seconds=1").last
    assert set(report["scenarios"]) == {"SingleStream", "Offline"}
    assert toolchain("show", bundle.folder).last == toolchain("show", image).last
    assert toolchain("image", bundle.folder).last["built"] is False
    row = toolchain("ledger", "history", NAME).last["rows"][0]
    assert (row["name"], row["release"]) == (NAME, "1")
    assert row["accuracy"] in (None, deployed.candidate(row["precision"]).accuracy)  # the release's own, of its choice
    assert (row["accuracy"] is None) == (row["precision"] != bundle.manifest.chosen)


def test_a_second_run_does_nothing_again(deployed: Deployed, toolchain: Toolchain, engine: DockerClient) -> None:
    before = engine.containers.get(CONTAINER).id
    said = toolchain("deploy", deployed.recipe, f"--port={deployed.port}")
    assert set(stages(said.err).values()) == {"unchanged"}
    assert set(stages(said.err)) == set(stages(deployed.err))
    assert engine.containers.get(CONTAINER).id == before
    assert said.last == deployed.last


def test_docker_finds_it_healthy(deployed: Deployed, engine: DockerClient) -> None:
    deadline, status = time.monotonic() + 90, ""
    while status != "healthy" and time.monotonic() < deadline:  # docker looks every thirty seconds
        status = engine.containers.get(CONTAINER).attrs["State"]["Health"]["Status"]
        time.sleep(0.5)
    assert status == "healthy"


def test_a_killed_container_is_brought_back(deployed: Deployed, toolchain: Toolchain, engine: DockerClient) -> None:
    engine.containers.get(CONTAINER).kill()
    refusal = toolchain("eval", deployed.last["url"], f"--recipe={deployed.recipe}").refusal()
    assert re.fullmatch(r"http://127.0.0.1:\d+: no answer \(.+\); is the container running\? docker ps", refusal)
    again = toolchain("deploy", deployed.recipe, f"--port={deployed.port}")
    assert f"container: replacing {CONTAINER} (exited)" in again.err
    assert again.last["url"] == deployed.last["url"]
    assert toolchain("eval", again.last["url"], f"--recipe={deployed.recipe}").last["images"] == 280


def test_a_changed_option_makes_another_release_from_there_on(deployed: Deployed, toolchain: Toolchain) -> None:
    recipe = changed(deployed.recipe, ("samples = 300", "samples = 200"))
    said = toolchain("build", recipe)
    assert said.last["release"] == "2"
    assert {title for title, state in stages(said.err).items() if state == "unchanged"} == UNTOUCHED
    first, second = deployed.bundle.manifest, open_bundle(Path(said.last["bundle"])).manifest
    assert (len(first.data.calibration_indices), len(second.data.calibration_indices)) == (300, 200)
    assert toolchain("build", deployed.recipe).last["release"] == "1"


def stopped_at(title: str, how: signal.Signals, build: list[str], home: Path) -> tuple[int, str]:
    """Exit status and stderr of a build that gets a signal when the stage `title` has begun."""
    said = []
    with subprocess.Popen(build, env=at(home), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if line.startswith(title):
                time.sleep(0.5)
                process.send_signal(how)
    return process.returncode, "".join(said)


def test_a_build_that_was_stopped_twice_goes_on_to_the_same_model(deployed: Deployed, tmp_path: Path) -> None:
    home, build = tmp_path / "stopped", command("build", deployed.recipe)
    code, said = stopped_at("export: ", signal.SIGINT, build, home)
    assert code == 130
    assert said.endswith("\ntoolchain: interrupted; run the same command again to resume\n")
    assert "Traceback" not in said
    assert half_written(home) == []
    assert stopped_at("openvino: int8", signal.SIGKILL, build, home)[0] == -signal.SIGKILL
    assert not (home / "bundles").exists()
    done = subprocess.run(build, env=at(home), capture_output=True, text=True, check=True)
    found = stages(done.stderr)
    assert found["export: ONNX, checked by ONNX Runtime against torch"] == "unchanged"
    assert found["openvino: int8"] == "resumed"
    assert half_written(home) == []
    # measured milliseconds differ, and so does the digest of the manifest that holds them; the model does not
    undisturbed, after = deployed.bundle.manifest, open_bundle(Path(json.loads(done.stdout.splitlines()[-1])["bundle"]))
    assert after.manifest.files == undisturbed.files
    assert after.manifest.parity == undisturbed.parity
    assert after.manifest.accuracy is not None
    assert undisturbed.accuracy is not None
    assert after.manifest.accuracy.fp32 == undisturbed.accuracy.fp32
    # golden samples and step figures are kept by what was measured of the candidates; all before that must be the same
    folders = [path.name for path in (home / "cache").iterdir() if path.is_dir()]
    kept = {name for name in folders if not name.startswith(("samples-", "step-figures-"))}
    assert kept <= {path.name for path in (deployed.home / "cache").iterdir()}


def test_stop_ends_it(deployed: Deployed, toolchain: Toolchain, engine: DockerClient) -> None:
    assert toolchain("stop", CONTAINER).last == {"name": CONTAINER, "stopped": True}
    assert engine.containers.list(all=True, filters={"name": f"^/{CONTAINER}$"}) == []
    assert toolchain("stop", CONTAINER).refusal(2).startswith(f"stop {CONTAINER}: no such container; ")
