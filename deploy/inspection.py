"""What an image says of itself on this machine, and what a bundle or an image holds. Knows nothing of torch."""

from pathlib import Path

from deploy import Say
from deploy.image import image_manifest
from deploy.oneshot import run_once
from toolchain.records import certificate, report
from toolchain.records.bundle import MANIFEST, open_bundle
from toolchain.records.certificate import Certificate
from toolchain.records.files import decoded
from toolchain.records.manifest import Manifest
from toolchain.records.report import Report


def certified(image: str, say: Say) -> Certificate:
    """Run the image's own check, with no network and nothing writable."""
    say(f"certify: {image}")
    return decoded(_last_line(run_once(image, ["certify"], say=say)), Certificate, image, certificate.FORMAT)


def benched(image: str, seconds: float, say: Say) -> Report:
    """Run the image's own benchmark, `seconds` a scenario."""
    say(f"bench: {image}, MLPerf LoadGen SingleStream and Offline")
    words = run_once(image, ["bench", f"--seconds={seconds}"], say=say)
    return decoded(_last_line(words), Report, image, report.FORMAT)


def described(what: str) -> Manifest:
    """The manifest of a bundle's folder, else of an image, which is read and not run: it may be another device's."""
    if (Path(what) / MANIFEST).is_file():
        return open_bundle(Path(what)).manifest
    return image_manifest(what)


def _last_line(words: str) -> bytes:
    return words.strip().rpartition("\n")[2].encode()
