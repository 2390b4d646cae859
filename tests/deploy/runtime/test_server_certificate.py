"""The certificate of a server: before it is ready, at `/`, in the metrics, and for `toolchain certificate verify`."""

import json
import re
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from deploy.certificates import read_certificate, verify_certificate
from tests.bundles import null_bundle
from tests.deploy.runtime.server import CAT, serving
from tests.deploy.runtime.test_server import failed
from toolchain.records.bundle import CERTIFY, Bundle, file_record
from toolchain.records.storage import encode_record

FIRST = {"CERTIFY": "first", "CERTIFY_SECONDS": "0.1"}


def sealed(bundle: Bundle) -> Bundle:
    """The bundle after its files were changed, with digests that fit: a fault of its making, not of its travel."""
    files = tuple(file_record(bundle.path(file.path)) for file in bundle.manifest.files)
    bundle.path("manifest.json").write_bytes(encode_record(msgspec.structs.replace(bundle.manifest, files=files)))
    return bundle


def test_a_server_is_ready_with_its_certificate_and_shows_it(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b", delay_ms=4, int8_ms=1, choose="device")
    state = tmp_path / "state"
    state.mkdir()
    with serving(bundle.folder, "--state", state, **FIRST) as server:
        about = json.loads(server.ask("GET", "/")[2])
        assert about["precision"] == "int8"
        assert about["certificate"]["policy"] == "first"
        assert about["certificate"]["precision"] == "int8, chosen by the device"
        assert about["certificate"]["passed"] is True
        assert json.loads(server.ask("GET", "/v2/models/null")[2])["platform"] == "null_int8"
        place = tmp_path / "c.json"
        place.write_bytes(server.ask("GET", "/certificate")[2])
        verify_certificate(*read_certificate(place))
        metrics = server.ask("GET", "/metrics")[2].decode()
        assert "edge_certificate_passed 1" in metrics
        issued = datetime.fromisoformat(about["certificate"]["issued_at"]).timestamp()
        told = metrics.partition("\nedge_certificate_issued_timestamp_seconds ")[2].partition("\n")[0]
        assert float(told) == issued
        found = re.search(r'edge_certificate_latency_seconds{quantile="0.9",scenario="SingleStream"} (.+)', metrics)
        assert found and 0.001 <= float(found[1]) < 1.0
        assert 'precision="int8"' in metrics
        assert server.infer(CAT)[0] == 200
    with serving(bundle.folder, "--state", state, **FIRST) as server:
        server.wait_for_text("still holds")


def test_a_bundle_that_lost_its_accuracy_on_the_way_is_never_ready(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b")
    np.savez(bundle.path(CERTIFY), images=np.zeros((12, 8, 8, 3), np.uint8), labels=np.arange(12) % 2)
    with serving(sealed(bundle).folder, until="not ready", **FIRST) as server:
        status, _, body = server.ask("GET", "/v2/health/ready")
        assert status == 503
        assert json.loads(body)["error"] == (
            "check 'accuracy' failed: 6 of 12 right (50.00%), "
            "expected at least 11: 12 on the build machine (100.00%) less 1"
        )
        assert server.infer(CAT)[0] == 503
        assert json.loads(server.ask("GET", "/")[2])["certificate"]["failed: accuracy"].startswith("6 of 12 right")
        assert b"edge_certificate_passed 0" in server.ask("GET", "/metrics")[2]


def test_switched_off_it_is_said_in_the_metrics(tmp_path: Path) -> None:
    with serving(null_bundle(tmp_path / "b").folder, CERTIFY="off") as server:
        assert b'edge_certificate_info{policy="off"} 1' in server.ask("GET", "/metrics")[2]
        assert server.ask("GET", "/certificate")[0] == 404
        assert json.loads(server.ask("GET", "/")[2])["certificate"] == {"policy": "off", "passed": None}


def test_what_cannot_be_asked_for_is_one_line(tmp_path: Path) -> None:
    folder = null_bundle(tmp_path / "b").folder
    for verb, words, told in (
        ("serve", ("--certify", "sometimes"), "--certify sometimes: expected always, first, off"),
        ("certify", ("--certify-seconds", "0"), "--certify-seconds 0.0: expected more than 0, at most 600"),
        ("bench", ("--scenarios", "Fast"), "--scenarios=Fast: no scenario 'Fast'; expected all, or of: "),
        ("bench", ("--rate", "-1"), "--rate -1.0: expected images per second, more than 0"),
        ("bench", ("--precision", "int9"), "--precision int9: no such candidate in this bundle; it has: fp32"),
    ):
        code, line = failed(verb, "--bundle", folder, *words)
        assert (code, told in line) == (2, True), line
