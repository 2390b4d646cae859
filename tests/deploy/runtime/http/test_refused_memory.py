"""What a refused request made the server unpack is free again at once, not when Python's collector next runs."""

import re
import zlib
from pathlib import Path

from tests.bundles import null_bundle
from tests.deploy.runtime.server import INFER, serving

UNPACKED = 40 << 20
REQUESTS = 12


def resident_bytes(pid: int, what: str) -> int:
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc", str(pid), "status").read_text())
    assert found
    return 1024 * int(found[1])


def test_refused_bodies_that_unpacked_to_much_are_not_held_together(tmp_path: Path) -> None:
    body = zlib.compress(bytes(UNPACKED), 9)
    with serving(null_bundle(tmp_path / "b").folder) as server:
        before = resident_bytes(server.process.pid, "VmRSS")
        for _ in range(REQUESTS):
            status, _, _ = server.ask("POST", INFER, body, Content_Encoding="deflate")
            assert status == 400
        peak = resident_bytes(server.process.pid, "VmHWM") - before
    assert peak < 4 * UNPACKED, f"one is 80 MB while it is joined; {REQUESTS} held {peak >> 20} MB"
