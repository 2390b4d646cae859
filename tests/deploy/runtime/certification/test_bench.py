import re
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from deploy.runtime.certification.bench import bundle_images, measure_candidate, run_bench
from tests.bundles import null_bundle
from toolchain.errors import DeviceError
from toolchain.records.bundle import CERTIFY, Bundle
from toolchain.records.manifest import Needs
from toolchain.records.report import FORMAT, Report
from toolchain.records.storage import decode_record, encode_record


def test_a_bundle_is_measured_whole(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b", delay_ms=3, release="7")
    said: list[str] = []
    report = run_bench(bundle, threads=2, seconds=0.5, say=said.append)
    assert (report.bundle, report.release, report.backend, report.engine) == (bundle.digest, "7", "null", "null 1")
    assert (report.threads, report.precision, report.cold_start_s, report.interleaved) == (2, "fp32", None, None)
    assert [scenario.scenario for scenario in report.scenarios] == ["SingleStream", "Offline"]
    assert all(scenario.valid for scenario in report.scenarios)
    p50_ms = report.scenario("SingleStream").percentile_ms(50)
    assert p50_ms is not None
    assert p50_ms >= 3
    assert report.peak_memory_bytes > 2**20
    assert report.throttled_periods >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", report.measured_at)
    assert said == ["bench: fp32, null 1, 2 threads, 0.5 s a scenario: SingleStream, Offline"]
    assert decode_record(encode_record(report), Report, "here", FORMAT) == report


def test_a_run_that_does_not_count_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    run_bench(null_bundle(tmp_path / "b", delay_ms=30), threads=1, seconds=0.1, say=said.append)
    assert any(line.startswith("SingleStream: not valid: ") and "needs 64" in line for line in said)


def test_a_certificate_has_no_scenario_that_does_not_count(tmp_path: Path) -> None:
    said: list[str] = []
    bundle = null_bundle(tmp_path / "b", delay_ms=30)
    found = measure_candidate(bundle, "fp32", 1, 0.1, said.append, only_valid=True)
    assert all(scenario.valid for scenario in found.scenarios)
    assert "SingleStream" in [scenario.scenario for scenario in found.scenarios]
    assert any(re.match(r"MultiStream: left out: 662 queries would take \d+ s; ", line) for line in said)


def test_a_device_that_lacks_what_is_needed_is_refused(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b", needs=Needs(cpu_isa=("avx9",)))
    with pytest.raises(DeviceError, match="lacks avx9, which the bundle needs"):
        run_bench(bundle, 1, 0.1, print)


def test_the_pictures_are_the_bundle_s_own(tmp_path: Path) -> None:
    bundle = null_bundle(tmp_path / "b")
    assert len(bundle_images(bundle)) == 12
    files = tuple(file for file in bundle.manifest.files if file.path != CERTIFY)
    bare = Bundle(bundle.folder, replace(bundle.manifest, files=files), bundle.digest)
    assert np.array_equal(bundle_images(bare), bundle_images(bundle)[:4])
