"""KServe's Python client works unchanged. It pins old libraries, so it has an environment of its own."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.serving.others import environment
from tests.bundles import null_bundle
from tests.deploy.runtime.server import serving

PROGRAM = Path(__file__).with_name("kserve_client.py")


@pytest.mark.slow
def test_kserves_client_works_unchanged_by_rest_and_grpc(tmp_path: Path) -> None:
    python = environment("kserve") / "python"
    bundle = null_bundle(tmp_path / "null.bundle")
    with serving(bundle.folder, "--grpc-port", 0, "--max-batch", 32) as server:
        grpc_port = server.wait_for("listening for gRPC")["grpc_port"]
        done = subprocess.run(
            [python, "-W", "ignore", PROGRAM, f"http://127.0.0.1:{server.port}", f"127.0.0.1:{grpc_port}"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == "answered: 6 by REST, 2 by gRPC"
        assert not [line for line in server.lines if line["event"] in ("unexpected", "plain", "fault")]
