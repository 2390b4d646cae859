"""Runs an image's own commands on this machine (certify, check, bench) and reads the manifest of a bundle or image."""

import logging
from pathlib import Path

from deploy.containers.run_once import run_once
from deploy.docker.sandbox import state_volume
from deploy.images.build import image_manifest
from toolchain.records import certificate, report, selfcheck
from toolchain.records.bundle import MANIFEST, open_bundle
from toolchain.records.certificate import Certificate
from toolchain.records.manifest import Manifest
from toolchain.records.report import Report
from toolchain.records.selfcheck import SelfCheck
from toolchain.records.storage import decode_record

logger = logging.getLogger(__name__)


def certify_image(image: str) -> Certificate:
    """Let the image choose, check and measure on this machine, without a network. The certificate is also written to
    the volume that its server will use."""
    logger.info(f"certify: {image}")
    output = run_once(image, ["certify"], volume=_volume(image))
    return decode_record(_last_line(output), Certificate, image, certificate.FORMAT)


def check_image(image: str) -> SelfCheck:
    """The image's self-check on this machine, which need not have the device that the image is for."""
    logger.info(f"check: {image}")
    return decode_record(_last_line(run_once(image, ["check"])), SelfCheck, image, selfcheck.FORMAT)


def bench_image(
    image: str,
    seconds: float,
    scenarios: str = "SingleStream,Offline",
    rate: float | None = None,
    precision: str = "",
) -> Report:
    """Run the image's own benchmark on this machine, `seconds` per scenario: of the precision that it serves here, or
    of the candidate `precision`."""
    logger.info(f"bench: {image}, MLPerf LoadGen: {scenarios}")
    options = [f"--seconds={seconds}", f"--scenarios={scenarios}", *([f"--rate={rate}"] if rate is not None else [])]
    options += [f"--precision={precision}"] if precision else []
    output = run_once(image, ["bench", *options], volume=_volume(image))
    return decode_record(_last_line(output), Report, image, report.FORMAT)


def read_manifest(what: str) -> Manifest:
    """The manifest of a bundle's folder or of an image. The image is read, not run: it may be for another device."""
    if (Path(what) / MANIFEST).is_file():
        return open_bundle(Path(what)).manifest
    return image_manifest(what)


def _volume(image: str) -> str:
    return state_volume(image_manifest(image).name)


def _last_line(output: str) -> bytes:
    return output.strip().rpartition("\n")[2].encode()
