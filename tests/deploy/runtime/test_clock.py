"""The system's clock jumps while the server runs."""

import json
import shutil
import struct
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.bundles import null_bundle
from tests.deploy.runtime.server import CAT, INFER, answer, request, serving

SOURCE = Path(__file__).with_name("jumpingclock.c")
ASKED = request("POST", INFER, json.dumps({"inputs": [CAT]}).encode())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler here: deploy/setup.sh servers")
@pytest.mark.parametrize("days", [400, -400])
def test_a_jump_of_the_clock_ends_no_request_no_connection_and_no_readiness(tmp_path: Path, days: int) -> None:
    library, jump = tmp_path / "jumping.so", tmp_path / "jump"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, SOURCE], check=True)
    jump.write_bytes(struct.pack("l", 0))
    faked = {"LD_PRELOAD": str(library), "CLOCK_JUMP": str(jump)}
    bundle = null_bundle(tmp_path / "bundle", delay_ms=300.0)
    with serving(bundle.folder, "--timeout", 60, **faked) as server:
        assert abs(written(server.wait_for("ready")) - datetime.now(UTC)) < timedelta(days=1)
        with server.connect() as idle, server.connect() as asking:
            idle.sendall(ASKED)
            assert answer(idle)[0] == 200
            asking.sendall(ASKED)  # is in the engine's hands while the clock jumps
            with jump.open("r+b") as held:  # never cut short: it is mapped
                held.write(struct.pack("l", days * 86400))
            assert answer(asking)[0] == 200
            for connection in (idle, asking):
                connection.sendall(ASKED)
                assert answer(connection)[0] == 200
        assert server.ask("GET", "/v2/health/ready")[0] == 200
        assert server.stop() == 0
        felt = written(server.wait_for("stopped")) - datetime.now(UTC)
        assert abs(felt - timedelta(days=days)) < timedelta(days=1)


def written(line: dict[str, str]) -> datetime:
    return datetime.fromisoformat(line["time"])
