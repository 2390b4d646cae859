import json
import subprocess

import pytest

from deploy.containers.run_once import SANDBOX, interleaved_command, once_command, run_once
from deploy.images.build import BuiltImage, build_image
from tests.bundles import null_bundle
from tests.names import own_name
from toolchain.errors import DockerError
from toolchain.records.bundle import Bundle


@pytest.mark.docker
def test_a_command_is_a_value_and_sandboxed() -> None:
    argv = once_command("edge-x:1", ["certify"], cpus=1.5)
    assert argv[1:4] == ["run", "-i", "--rm"]
    assert set(SANDBOX) < set(argv)
    assert argv[-3:] == ["--cpus=1.5", "edge-x:1", "certify"]
    assert {"--network=none", "--read-only", "--cap-drop=ALL"} < set(argv)


@pytest.mark.docker
def test_certify_prints_one_json_document(image: BuiltImage, bundle: Bundle, messages: list[str]) -> None:
    certificate = json.loads(run_once(image.tag, ["certify"]))
    assert certificate["bundle"] == bundle.digest
    assert any(line.startswith("passed: ") for line in messages)


@pytest.mark.docker
def test_a_failed_certificate_is_a_result_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    bundle = null_bundle(tmp_path_factory.mktemp("fails") / "b", preprocessing_sha256="0" * 64)
    failing = build_image(bundle, own_name("edge-test:fails"))
    certificate = json.loads(run_once(failing.tag, ["certify"]))
    assert [check["name"] for check in certificate["checks"] if not check["passed"]] == ["preprocessing"]


@pytest.mark.docker
def test_an_interleaved_runner_runs_the_requested_slices(image: BuiltImage) -> None:
    request = '{"precision":"fp32","queries":3}\n'
    done = subprocess.run(interleaved_command(image.tag, 1), input=request, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)["latencies_ms"]) == 3


@pytest.mark.docker
def test_a_failure_is_reported_with_its_last_line(image: BuiltImage) -> None:
    with pytest.raises(DockerError, match=rf"{image.tag} juggle: failed \(exit 2\): .*invalid choice: 'juggle'"):
        run_once(image.tag, ["juggle"])


@pytest.mark.docker
def test_a_command_that_takes_too_long_is_stopped(image: BuiltImage) -> None:
    with pytest.raises(DockerError, match="not done after 2 s"):
        run_once(image.tag, ["bench", "--seconds=60"], timeout_s=2)


@pytest.mark.docker
def test_a_missing_image_is_named() -> None:
    with pytest.raises(DockerError, match=r"^edge-none:1: no such image"):
        run_once("edge-none:1", ["certify"])
