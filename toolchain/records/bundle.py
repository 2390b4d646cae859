"""A bundle on disk: a folder whose manifest contains the digest of every file next to it."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np

from toolchain.errors import RecordError
from toolchain.records.manifest import FORMAT, FileRecord, Manifest
from toolchain.records.storage import atomic_folder, decode_record, digest_of, encode_record
from toolchain.records.tensors import Array

MANIFEST, SAMPLE, CERTIFY = "manifest.json", "sample.npz", "certify.npz"


class Bundle(msgspec.Struct, frozen=True):
    """An opened bundle; `digest` (sha256 of the manifest's bytes) identifies the release everywhere downstream."""

    folder: Path
    manifest: Manifest
    digest: str

    def path(self, name: str) -> Path:
        return self.folder / name

    def read_arrays(self, name: str) -> dict[str, Array]:
        """The arrays of sample.npz (`inputs`, `outputs_<precision>`) or of certify.npz (`images`, `labels`; in newer
        bundles `classes`, what the labels' numbers are called in the data)."""
        with np.load(self.folder / name, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    def has_file(self, name: str) -> bool:
        return any(file.path == name for file in self.manifest.files)


def file_record(path: Path) -> FileRecord:
    """The record of a file that goes into the bundle under its own name."""
    return FileRecord(path.name, digest_of(path), path.stat().st_size)


def write_bundle(folder: Path, manifest: Manifest, files: Iterable[Path]) -> Bundle:
    """Copy `files` and the manifest into `folder`, completely or not at all."""
    content = encode_record(manifest)
    with atomic_folder(folder) as temporary:
        for path in files:
            (temporary / path.name).write_bytes(path.read_bytes())
        (temporary / MANIFEST).write_bytes(content)
    return Bundle(folder, manifest, sha256(content).hexdigest())


def open_bundle(folder: Path) -> Bundle:
    """Open a bundle and verify every digest; RecordError names a file that is missing, changed or not listed."""
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise RecordError(
            f"{folder}: not a bundle ({MANIFEST}: {error.strerror}); build one: toolchain build"
        ) from error
    manifest = decode_record(content, Manifest, str(folder / MANIFEST), FORMAT)
    for file in manifest.files:
        path = folder / file.path
        if not path.is_file():
            raise RecordError(f"{path}: missing from the bundle; build it again: toolchain build")
        if path.stat().st_size != file.size_bytes or digest_of(path) != file.sha256:
            raise RecordError(f"{path}: changed since the bundle was written (digest differs); build it again")
    listed = {file.path for file in manifest.files} | {MANIFEST}
    for path in folder.rglob("*"):
        if path.is_file() and str(path.relative_to(folder)) not in listed:
            raise RecordError(f"{path}: not listed in the bundle's manifest; remove it or build the bundle again")
    return Bundle(folder, manifest, sha256(content).hexdigest())
