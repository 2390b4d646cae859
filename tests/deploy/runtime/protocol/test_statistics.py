"""The statistics extension: what was counted, as Triton's clients read it."""

import json
import subprocess
import sys
from pathlib import Path

from deploy.runtime.metrics import Metrics
from deploy.runtime.protocol.statistics import Duration, statistics
from tests.bundles import null_bundle
from tests.deploy.runtime.protocol.test_protocol_client import picture
from tests.deploy.runtime.server import CAT, INFER, serving

# In a process of its own: gevent patches what the others in this process rely on.
TRITON = """
import json, sys
import tritonclient.http as http

client = http.InferenceServerClient(sys.argv[1])
assert "statistics" in client.get_server_metadata()["extensions"]
every = [client.get_inference_statistics(*words) for words in ((), ("null",), ("null", "1"))]
print(json.dumps(every))
"""


def test_stages_become_the_durations_of_the_protocol(tmp_path: Path) -> None:
    metrics = Metrics()
    for stage, seconds in {"parse": 0.001, "decode": 0.002, "queue": 0.003, "infer": 0.004, "encode": 0.005}.items():
        metrics.stages[stage].observe(seconds)
    metrics.stages["parse"].observe(0.001)  # a tensor: nothing to decode
    metrics.infer_requests.observe(0.25)
    metrics.batches.observe(8)
    metrics.images, metrics.failures, metrics.failed_s, metrics.last_inference_s = 8, 2, 0.5, 1_700_000_000.25
    (found,) = statistics(null_bundle(tmp_path / "null.bundle").manifest, metrics).model_stats
    assert (found.name, found.version, found.last_inference) == ("null", "1", 1_700_000_000_250)
    assert (found.inference_count, found.execution_count) == (8, 1)
    assert found.inference_stats.success == Duration(1, 250_000_000)
    assert found.inference_stats.fail == Duration(2, 500_000_000)
    assert found.inference_stats.compute_input == Duration(2, 4_000_000)
    assert found.inference_stats.queue == Duration(1, 3_000_000)
    assert found.inference_stats.compute_infer == Duration(1, 4_000_000)
    assert found.inference_stats.compute_output == Duration(1, 5_000_000)


def test_before_the_first_request_everything_is_nought(tmp_path: Path) -> None:
    (found,) = statistics(null_bundle(tmp_path / "null.bundle").manifest, Metrics()).model_stats
    assert (found.last_inference, found.inference_count, found.execution_count) == (0, 0, 0)
    assert found.inference_stats.success == found.inference_stats.fail == Duration(0, 0)


def test_tritonclient_reads_what_a_server_counted(tmp_path: Path) -> None:
    with serving(null_bundle(tmp_path / "null.bundle", delay_ms=2).folder) as server:
        batch = {**CAT, "shape": [3, 8, 8, 3], "data": [7] * 3 * 192}
        assert [server.infer(CAT)[0], server.infer(batch)[0], server.infer({**CAT, "datatype": "FP32"})[0]] == [
            *(200, 200, 400)
        ]
        assert server.ask("POST", INFER, picture(), Content_Type="image/jpeg")[0] == 200
        asked = [sys.executable, "-W", "ignore", "-c", TRITON, f"127.0.0.1:{server.port}"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    first, second, third = json.loads(done.stdout)
    assert first == second == third
    (found,) = first["model_stats"]
    stats = found["inference_stats"]
    assert (found["inference_count"], found["batch_stats"]) == (5, [])
    assert found["last_inference"] > 1_700_000_000_000
    assert (stats["success"]["count"], stats["fail"]["count"]) == (3, 1)
    assert stats["compute_infer"]["ns"] >= 3 * 2_000_000
    assert stats["success"]["ns"] > stats["compute_infer"]["ns"]
    assert stats["fail"]["ns"] > 0
    assert stats["cache_hit"] == stats["cache_miss"] == {"count": 0, "ns": 0}
