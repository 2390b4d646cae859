"""Tier T3: `toolchain deploy --target=tensorrt` without a GPU: what is made, checked, and told as not run."""

import html
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docker import DockerClient

from deploy.docker.engine import client_command
from deploy.images.build import find_image
from deploy.runtime.device.cuda import Cuda
from tests.journeys.conftest import Toolchain, lend_wheelhouse
from tests.journeys.own import changed
from tests.journeys.said import Said
from tests.names import own_name
from toolchain.errors import DeviceError
from toolchain.records.bundle import open_bundle

pytestmark = [pytest.mark.docker, pytest.mark.slow]
NAME = own_name("journey-gpu")
TAG = f"edge-{NAME}:1-tensorrt"
LIMIT_BYTES = 650_000_000
NO_DRIVER = "no CUDA driver (35): install NVIDIA's driver (580 or later) and the NVIDIA Container Toolkit on the host"


def gpu_here() -> bool:
    try:
        Cuda().check_device()
    except DeviceError:
        return False
    return True


@pytest.fixture(scope="module")
def deployed(own: Path, engine: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Said]:
    """The main job of a user's own net, for a GPU that is not here."""
    if gpu_here():
        pytest.skip("T3 not run: there is a GPU here; make test-gpu and make bench-a6000 ask it")
    home = tmp_path_factory.mktemp("gpu") / "home"
    recipe = changed(own / "grey28.toml", ('name = "grey28"', f'name = "{NAME}"'), to="gpu.toml")
    lend_wheelhouse(home)
    command = [sys.executable, "-m", "toolchain", "deploy", str(recipe), "--target=tensorrt", "--port=0"]
    environment = {**os.environ, "TOOLCHAIN_HOME": str(home)}
    done = subprocess.run(command, env=environment, cwd=own, capture_output=True, text=True, check=False)
    yield Said(done.returncode, done.stdout, done.stderr)
    if find_image(engine, TAG):
        engine.images.remove(TAG, force=True)


def test_it_ends_with_what_was_made_and_what_was_not_run(deployed: Said) -> None:
    last = deployed.last
    assert last["image"] == TAG
    assert last["image_bytes"] <= LIMIT_BYTES
    assert last["selfcheck_passed"] is True
    assert last["lacking"].startswith(NO_DRIVER)
    assert {"certificate", "benchmark", "container"} <= set(last["not_run"])
    assert last["accuracy"] >= last["accuracy_fp32"] - 0.01
    assert "NOT RUN: no CUDA driver (35)\n  container\n" in deployed.out
    (report,) = re.findall(r"^report: (.+)$", deployed.out, re.MULTILINE)
    assert "tensorrt's graph int8" in html.unescape(Path(report).read_text())  # who answered for the GPU
    assert "Traceback" not in deployed.err


def test_the_bundle_tells_for_which_gpu_and_how_int8_is_computed(deployed: Said) -> None:
    bundle = open_bundle(Path(deployed.last["bundle"]))
    manifest = bundle.manifest
    assert (manifest.needs.gpu, manifest.needs.compute_capabilities) == (True, (86,))
    assert [one.precision for one in manifest.candidates] == ["fp32", "fp16", "int8"]
    assert all(one.latency_ms is None and one.accuracy is not None for one in manifest.candidates)
    assert manifest.chosen == "fp16"
    audit = json.loads(bundle.path("audit-int8.json").read_bytes())
    assert set(audit["convolutions"].values()) == {"Int8"}
    assert all(row.passed for row in manifest.parity)


def test_without_a_gpu_every_verb_of_the_image_is_one_line_and_exit_1(deployed: Said) -> None:
    for verb in ("serve", "bench"):
        done = contained(deployed.last["image"], verb)
        plain = [line for line in done.stderr.splitlines() if not line.startswith("{")]
        assert done.returncode == 1
        assert plain == [f"deploy.runtime: {NO_DRIVER}, and start the container with --gpus=all"]
    certified = contained(deployed.last["image"], "certify")
    assert certified.returncode == 1
    (needs,) = json.loads(certified.stdout.splitlines()[-1])["checks"]
    assert (needs["name"], needs["passed"]) == ("needs", False)
    assert needs["expected"] == "x86_64, an NVIDIA GPU, compute capability 8.6"
    assert "Traceback" not in certified.stderr


def test_the_image_checks_itself_on_any_machine(deployed: Said) -> None:
    done = contained(deployed.last["image"], "check")
    assert done.returncode == 0
    found = json.loads(done.stdout.splitlines()[-1])
    assert all(check["passed"] for check in found["checks"])
    engines = {check["name"]: check["found"] for check in found["checks"] if check["name"].endswith("engine")}
    assert set(engines) == {"fp32: engine", "fp16: engine", "int8: engine"}
    assert all(words.startswith("tensorrt-rtx ") for words in engines.values())
    assert found["not_run"].startswith(NO_DRIVER)


def test_the_hosts_verbs_say_it_too(deployed: Said, toolchain: Toolchain) -> None:
    assert NO_DRIVER in toolchain("run", deployed.last["image"], "--port=0").refusal()
    assert NO_DRIVER in toolchain("bench", deployed.last["image"], "--seconds=1").refusal()


def contained(image: str, verb: str) -> "subprocess.CompletedProcess[str]":
    """As a user runs it, without our host's verbs."""
    command = [client_command(), "run", "--rm", "--network=none", image, verb]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
