"""The checks of a bundle that any machine can run: its files, its engine's library and versions; and its golden answers
where this device can run it. Writes nothing.
"""

from collections.abc import Iterator

import msgspec

from deploy.runtime.certification.checks import check_preprocessing, golden_checks
from deploy.runtime.certification.offered import meets_accuracy_threshold
from deploy.runtime.device.probe import missing_needs
from deploy.runtime.engines import Settings, offline_checks, serving_engine
from deploy.runtime.engines.saturation import saturation_refusal
from toolchain.errors import DeviceError
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import Check
from toolchain.records.manifest import Candidate
from toolchain.records.selfcheck import SelfCheck


def run_selfcheck(bundle: Bundle, threads: int) -> SelfCheck:
    """For every candidate that a device may select. Opening the bundle has already checked its files against the
    manifest."""
    manifest = bundle.manifest
    lacking = missing_needs(manifest.needs) or ""
    checks = [
        Check("files", True, f"{len(manifest.files)} files, each with its digest", "sha256 as the manifest has it"),
        check_preprocessing(bundle),
    ]
    for one in manifest.candidates:
        if meets_accuracy_threshold(manifest, one):
            found = offline_checks(bundle.folder, one) if lacking else _engine_checks(bundle, one, threads)
            checks += [msgspec.structs.replace(check, name=f"{one.precision}: {check.name}") for check in found]
    return SelfCheck(bundle.digest, manifest.name, manifest.release, manifest.target, tuple(checks), lacking)


def _engine_checks(bundle: Bundle, one: Candidate, threads: int) -> Iterator[Check]:
    if reason := saturation_refusal(one):
        yield Check("engine", True, f"not opened: {reason}", "one that opens it, where its sums do not saturate")
        return
    try:
        with serving_engine(bundle, Settings(threads), one.precision) as engine:
            yield Check("engine", True, engine.version, "one that opens it")
            yield from (check for check in golden_checks(bundle, engine, one.precision) if "golden" in check.name)
    except DeviceError as error:
        yield Check("engine", False, str(error), "one that opens it")
