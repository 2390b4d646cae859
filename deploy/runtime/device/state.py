"""What a container keeps on its volume between starts: its key, and a certificate for each bundle and device.

A folder that cannot be written is no error: everything is then made again at each start, and the log says so.
"""

import os
from hashlib import sha256
from pathlib import Path

import msgspec

from deploy.runtime.device.probe import fingerprint
from toolchain.errors import RecordError
from toolchain.records.bundle import Bundle
from toolchain.records.certificate import FORMAT, Certificate
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.storage import decode_record, encode_record, write_atomically


def writable_folder(folder: Path | None) -> Path | None:
    """The folder, or None where nothing can be kept in it."""
    return folder if folder is not None and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) else None


def _certificate_file(state: Path, bundle: str, device: Fingerprint, threads: int) -> Path:
    key = sha256(msgspec.json.encode((bundle, device, threads))).hexdigest()
    return state / f"certificate-{bundle[:12]}-{key[:16]}.json"


def load_certificate(state: Path | None, bundle: str, device: Fingerprint, threads: int) -> Certificate | None:
    """The certificate of exactly this bundle and device, if it passed; None also where it cannot be read."""
    if state is None:
        return None
    place = _certificate_file(state, bundle, device, threads)
    try:
        found = decode_record(place.read_bytes(), Certificate, str(place), FORMAT)
    except (OSError, RecordError):
        return None
    return found if found.bundle == bundle and found.fingerprint == device and found.passed else None


def chosen_precision(bundle: Bundle, threads: int, state: Path | None) -> str:
    """The precision that this device serves by its certificate on the volume; without one, the build's choice."""
    kept = load_certificate(writable_folder(state), bundle.digest, fingerprint(), threads)
    return kept.precision if kept else bundle.manifest.chosen


def save_certificate(state: Path | None, certificate: Certificate) -> None:
    """For the next start, whether it passed or not: a person may want to read why it failed."""
    if state is not None:
        place = _certificate_file(state, certificate.bundle, certificate.fingerprint, certificate.threads)
        write_atomically(place, encode_record(certificate))
