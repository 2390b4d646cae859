"""Where a certificate comes from: its device is known by its key, and its bundle by what was recorded of it.

A signature alone tells only that somebody signed. Does not know where certificates are read from.
"""

from collections.abc import Collection
from contextlib import closing

from deploy.certificates import verify_certificate
from deploy.ledger.history import device_label
from deploy.ledger.ledger import Ledger
from toolchain.errors import RecordError
from toolchain.records import certificate, manifest
from toolchain.records.certificate import Certificate, short_key
from toolchain.records.fingerprint import Fingerprint
from toolchain.records.manifest import Manifest
from toolchain.records.storage import decode_record


class KnownOrigins:
    """Of the certificates in a ledger. keys: the only devices whose certificates are accepted, () for any; unsigned:
    whether certificates from before they were signed are accepted."""

    def __init__(self, ledger: Ledger, keys: Collection[str] = (), unsigned: bool = False) -> None:
        self._keys, self._unsigned = keys, unsigned
        self._devices: dict[str, Fingerprint] = {}
        self._releases: dict[str, tuple[str, str]] = {}
        with closing(ledger.iter_contents()) as contents:  # type: ignore[type-var]  # a generator
            for kind, digest, content, _ in contents:
                if kind == "release":
                    self.add_release(digest, decode_record(content, Manifest, digest, manifest.FORMAT))
                elif kind == "certificate":
                    self.add_certificate(decode_record(content, Certificate, digest, certificate.FORMAT))
                else:
                    break  # releases and certificates come first

    def add_release(self, bundle: str, release: Manifest) -> None:
        self._releases[bundle] = (release.name, release.release)

    def add_certificate(self, accepted: Certificate) -> None:
        if accepted.key:
            self._devices.setdefault(accepted.key, accepted.fingerprint)

    def check(self, document: bytes, found: Certificate, where: str) -> None:
        """RecordError: not signed, changed, or of another device or bundle than it says."""
        if not found.signature and self._unsigned:
            return
        what = f"{where}: the certificate of {found.name} {found.release}"
        try:
            verify_certificate(document, found)
        except RecordError as error:
            raise RecordError(f"{what}: {error}; to take unsigned ones too: --allow-unsigned") from error
        if self._keys and found.key not in self._keys:
            raise RecordError(f"{what} is of the device {short_key(found.key)}, which is not among those of --key")
        self._check_device(what, found)
        self._check_bundle(what, found)

    def _check_device(self, what: str, found: Certificate) -> None:
        known = self._devices.get(found.key)
        if known is not None and _identity(known) != _identity(found.fingerprint):
            raise RecordError(
                f"{what} is of {device_label(found.fingerprint)} and signed by {short_key(found.key)}, which this "
                f"ledger knows as the key of {device_label(known)}; a key belongs to one device: remove its copy "
                "(key.ed25519 on the volume) and certify again there"
            )

    def _check_bundle(self, what: str, found: Certificate) -> None:
        name, release = self._releases.get(found.bundle, (found.name, found.release))
        if (name, release) != (found.name, found.release):
            raise RecordError(f"{what} is of bundle {found.bundle[:12]}, which is {name} {release} in this ledger")


def _identity(device: Fingerprint) -> tuple[str, str, str]:
    """What does not change while a device is the same."""
    return device.architecture, device.cpu_model, device.gpu
