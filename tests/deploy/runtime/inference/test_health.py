"""Readiness: beside the checks, whatever keeps requests from being answered."""

from pathlib import Path

from deploy.runtime.engines import Settings, open_engine
from deploy.runtime.inference.health import Health
from deploy.runtime.scheduling.service import Service
from tests.bundles import null_bundle


def test_a_server_whose_decoding_is_stuck_is_not_ready_and_says_why(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "null.bundle")
    health = Health()
    with open_engine(bundle.folder, bundle.manifest.serving, Settings(1)) as engine:
        health.record_checks(Service(engine), ())
        assert health.ready
        health.stuck_reason = lambda: "decoding is stuck: a request has kept a thread for 40 s"
        assert (health.ready, health.why_not_ready) == (False, health.stuck_reason())
        assert health.phase == "ready"  # it is again, as soon as the thread comes back
