"""What an image says of itself on this machine, and what a bundle or an image holds. Knows nothing of torch."""

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


def certified(image: str) -> Certificate:
    """Let the image choose, check and measure on this machine, with no network. It writes to the volume that its server
    will find it on."""
    logger.info(f"certify: {image}")
    words = run_once(image, ["certify"], volume=_volume(image))
    return decode_record(_last_line(words), Certificate, image, certificate.FORMAT)


def selfchecked(image: str) -> SelfCheck:
    """What the image finds of itself on this machine, which need not be able to run it."""
    logger.info(f"check: {image}")
    return decode_record(_last_line(run_once(image, ["check"])), SelfCheck, image, selfcheck.FORMAT)


def benched(
    image: str,
    seconds: float,
    scenarios: str = "SingleStream,Offline",
    rate: float | None = None,
    precision: str = "",
) -> Report:
    """Run the image's own benchmark on this machine, `seconds` a scenario: of what it serves here, or of the candidate
    `precision`."""
    logger.info(f"bench: {image}, MLPerf LoadGen: {scenarios}")
    asked = [f"--seconds={seconds}", f"--scenarios={scenarios}", *([f"--rate={rate}"] if rate is not None else [])]
    asked += [f"--precision={precision}"] if precision else []
    words = run_once(image, ["bench", *asked], volume=_volume(image))
    return decode_record(_last_line(words), Report, image, report.FORMAT)


def described(what: str) -> Manifest:
    """The manifest of a bundle's folder, else of an image, which is read and not run: it may be another device's."""
    if (Path(what) / MANIFEST).is_file():
        return open_bundle(Path(what)).manifest
    return image_manifest(what)


def _volume(image: str) -> str:
    return state_volume(image_manifest(image).name)


def _last_line(words: str) -> bytes:
    return words.strip().rpartition("\n")[2].encode()
