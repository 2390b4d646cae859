"""What is recorded on a server of one model: the keys that it trusts, the signature of each release, and the audit."""

import logging
from contextlib import AbstractContextManager

import msgspec
from docker import DockerClient

from deploy.images.content import is_id_of
from deploy.images.signatures import own_public_key, read_signed_at, read_signing_key, signed_content
from deploy.servers import audit_log
from deploy.servers.answers import decode_answer, translate_errors
from deploy.servers.audit_log import AuditCheck
from deploy.servers.inventory import ServerConfig
from deploy.servers.release_image import docker_name
from deploy.servers.server import AuditEntry, DamagedSignatureError, ShipError
from deploy.servers.trust_volume import TrustVolume
from deploy.servers.volume_files import VolumeFiles
from toolchain.errors import RecordError

logger = logging.getLogger(__name__)

AUDIT, TRUSTED, SIGNED = "audit.jsonl", "trusted.json", "signed-"


class ServerRecords:
    """earlier: where earlier versions kept these files. Raises ShipError for errors of the engine and of the link."""

    def __init__(self, server: ServerConfig, client: DockerClient, model: str, earlier: VolumeFiles) -> None:
        self._server, self._head_path = server, audit_log.head_path(server, model)
        self._files = TrustVolume(client, server.name, model, earlier, (TRUSTED, AUDIT), SIGNED)

    def _translating_errors(self, what: str) -> AbstractContextManager[None]:
        return translate_errors(self._server, what)

    def trusted_keys(self) -> tuple[str, ...]:
        """The keys whose releases may run there; empty before the first release. ShipError: they cannot be read."""
        with self._translating_errors("trust"):
            content = self._files.read(TRUSTED)
        try:
            return decode_answer(content, tuple[str, ...], f"{self._server.name}: {TRUSTED} there") if content else ()
        except ShipError as error:
            raise ShipError(f"{error}; expected a list of keys; to trust this image's key alone: --trust") from error

    def trust_key(self, key: str, replace_unreadable: bool = False) -> None:
        """Trust `key` from now on. replace_unreadable: in place of a list that cannot be read."""
        try:
            known = self.trusted_keys()
        except ShipError:
            if not replace_unreadable:
                raise
            known = ()
        if key not in known:
            with self._translating_errors("trust"):
                self._files.write(TRUSTED, msgspec.json.encode((*known, key)))

    def keep_signature(self, release: str, signature: bytes) -> None:
        """For a later rollback, and to know what was shipped."""
        with self._translating_errors("trust"):
            if self._files.read(_signature_file(release)) != signature:
                self._files.write(_signature_file(release), signature)

    def read_signature(self, release: str) -> bytes:
        """The stored signature; b"" if there is none."""
        with self._translating_errors("trust"):
            return self._files.read(_signature_file(release))

    def was_shipped(self, release: str, image: str) -> bool:
        """Whether what the engine calls `image` is a release that was shipped there, and was not only built there."""
        signature = self.read_signature(release)
        content = signed_content(signature)
        return bool(signature) and (content is None or is_id_of(image, content))

    def newest_shipped(self, live: str) -> tuple[str, str]:
        """(release, when it was signed) of the later signed of two: `live`, and the one that was shipped last by the
        audit, from which a rollback may have gone back. ("", "") for none.
        DamagedSignatureError: one cannot be read."""
        shipped = (entry for entry in reversed(self.read_audit()) if entry.what.startswith("ship: "))
        last = next((entry.release for entry in shipped if entry.outcome == "live"), "")
        signed = {release: self._read_signed_at(release) for release in {last, live} - {""}}
        return max(signed.items(), key=lambda one: one[1], default=("", ""))

    def _read_signed_at(self, release: str) -> str:
        try:
            return read_signed_at(self.read_signature(release), f"{self._server.name}: the signature kept of {release}")
        except RecordError as error:
            raise DamagedSignatureError(
                f"{error}; whether this release is older cannot be known: if it may go live, --allow-downgrade", release
            ) from error

    # the audit

    def append_audit(self, entry: AuditEntry) -> None:
        """Sign a further line with this toolchain's key."""
        with self._translating_errors("audit"):
            log = self._files.read(AUDIT)
            longer = audit_log.append_entry(log, entry, self._server.name, read_signing_key())
            self._files.write(AUDIT, longer)
            if audit_log.extends(log, audit_log.recall_head(self._head_path)):
                audit_log.remember_head(self._head_path, audit_log.head_of(longer))
            else:
                logger.warning(
                    f"{self._server.name}: lines of its audit are missing or changed: toolchain audit --verify"
                )

    def read_audit(self) -> tuple[AuditEntry, ...]:
        """Every line, oldest first, unchecked; lines that cannot be read are logged."""
        with self._translating_errors("audit"):
            entries = audit_log.read_entries(self._files.read(AUDIT))
        for entry in entries:
            if entry.outcome == audit_log.UNREADABLE:
                logger.warning(f"{self._server.name}: its audit: {entry.reason}; see toolchain audit --verify")
        return entries

    def check_audit(self, keys: tuple[str, ...]) -> AuditCheck:
        """keys: of other toolchains that may write there. Once a log is found whole, this toolchain knows its end."""
        with self._translating_errors("audit"):
            log, head = self._files.read(AUDIT), audit_log.recall_head(self._head_path)
            check = audit_log.check_log(log, {own_public_key(), *keys} - {""}, head, self._head_path)
            if check.passed:
                audit_log.remember_head(self._head_path, audit_log.head_of(log))
            return check


def _signature_file(release: str) -> str:
    return f"{SIGNED}{docker_name(release)}.json"
